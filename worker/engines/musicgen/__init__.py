"""MusicGen: text and clips in, music out."""
