import pytest

from shared.retry_delay import RetryDelay


@pytest.mark.parametrize(("attempt", "expected_s"), [(1, 2), (2, 4), (3, 8), (10, 60), (2000, 60)])
def test_delay_doubles_up_to_the_limit(attempt: int, expected_s: float) -> None:
    assert RetryDelay(2.0, 60.0).after(attempt) == expected_s
