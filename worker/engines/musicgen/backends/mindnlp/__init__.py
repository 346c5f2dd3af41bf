"""MindNLP's own MusicGen as a backend, to compare with."""
