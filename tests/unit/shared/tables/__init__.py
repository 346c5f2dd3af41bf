"""Tests of the library of tables."""
