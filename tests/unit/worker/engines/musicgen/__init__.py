"""Tests of the MusicGen engine."""
