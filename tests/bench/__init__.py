"""Benchmarks, compared with baselines: ``python -m tests.bench [knn|jobs|web|musicgen]``, which is ``make bench``."""
