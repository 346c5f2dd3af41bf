from shared.ids import is_id, make_id
from shared.jobs import TRANSITIONS, DeviceClass, Kind, State, name_queue


def test_every_state_has_its_edges() -> None:
    assert set(TRANSITIONS) == set(State)


def test_queues_are_per_kind_and_class() -> None:
    queues = {name_queue(kind, device) for kind in Kind for device in DeviceClass}
    assert len(queues) == len(Kind) * len(DeviceClass)
    assert "knn.cpu" in queues


def test_ids_rise_and_are_recognised() -> None:
    ids = [make_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert all(is_id(name) for name in ids)
    assert not any(is_id(name) for name in ("", "x", ids[0].upper(), ids[0] + "\n", "{" + ids[0] + "}"))
