"""Real servers, real workers, killed for real."""
