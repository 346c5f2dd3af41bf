"""Tests of the KNN engine, against SciPy, scikit-learn and brute force."""
