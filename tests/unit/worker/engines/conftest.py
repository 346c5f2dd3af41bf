import pytest


@pytest.fixture(autouse=True, scope="session")
def _cpu() -> None:
    """Select the device before the first test computes: MindSpore does not allow the device to be selected later."""
    import mindspore

    mindspore.set_device("CPU")
