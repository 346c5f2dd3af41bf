"""Tests with real servers and real workers, some of which the tests kill."""
