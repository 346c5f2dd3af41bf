"""Speed and memory beside peers: ``python -m tests.bench [knn|jobs|musicgen]``, which is ``make bench``."""
