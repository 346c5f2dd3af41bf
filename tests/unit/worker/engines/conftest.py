import mindspore
import pytest


@pytest.fixture(autouse=True, scope="session")
def _cpu() -> None:
    """Choose the device before the first test computes; later it cannot be chosen."""
    mindspore.set_device("CPU")
