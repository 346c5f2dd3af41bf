"""Benchmarks that compare the service with baselines.

``make bench`` runs ``python -m tests.bench [knn|jobs|web|musicgen]``.
"""
