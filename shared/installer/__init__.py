"""Sets up environments from the lock files.

Any Python from 3.8 on runs it, before anything is installed: it uses the standard library alone.
"""
