"""Sets up environments from the lock files.

Any Python from 3.8 on can run this package before anything is installed, because the package uses only the standard
library.
"""
