import pytest


@pytest.fixture(autouse=True, scope="session")
def _cpu() -> None:
    """Select no device: these tests need no framework, and loading MindSpore would take seconds."""
