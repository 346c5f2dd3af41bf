"""The form and the result page of music generation."""
