"""Speed and memory beside peers: ``python -m tests.bench [knn|jobs]``, which is ``make bench``."""
