"""The tests, and the benchmarks in ``tests.bench``."""
