"""The backend MindNLP, which the other backends are compared with: the MusicGen of transformers."""
