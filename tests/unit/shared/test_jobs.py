import pytest

from shared.ids import is_id, make_id
from shared.jobs import TRANSITIONS, DeviceClass, Kind, RetryDelay, State, name_queue


def test_every_state_has_its_edges() -> None:
    assert set(TRANSITIONS) == set(State)


def test_queues_are_per_kind_and_class() -> None:
    queues = {name_queue(kind, device) for kind in Kind for device in DeviceClass}
    assert len(queues) == len(Kind) * len(DeviceClass)
    assert "knn.cpu" in queues


@pytest.mark.parametrize(("attempt", "expected_s"), [(1, 2), (2, 4), (3, 8), (10, 60), (2000, 60)])
def test_the_pause_grows_to_its_limit(attempt: int, expected_s: float) -> None:
    assert RetryDelay(2.0, 60.0).after(attempt) == expected_s


def test_ids_rise_and_are_recognised() -> None:
    ids = [make_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert all(is_id(name) for name in ids)
    assert not any(is_id(name) for name in ("", "x", ids[0].upper(), ids[0] + "\n", "{" + ids[0] + "}"))
