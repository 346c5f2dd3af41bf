"""The backend MindNLP: the MusicGen of transformers, for comparison with the other backends."""
