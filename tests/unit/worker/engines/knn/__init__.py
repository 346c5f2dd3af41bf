"""Tests of the KNN engine, which compare it with SciPy, scikit-learn and a brute-force search."""
