"""Tests that need no server; only ``web/kinds/test_forms.py`` starts Redis."""
