"""Music generation: parameters, results, the catalogue of models, and audio formats."""
