"""Audio before and after the model: clips, loudness, quality, pictures."""
