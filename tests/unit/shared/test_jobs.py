from shared.ids import is_id, make_id
from shared.jobs import TRANSITIONS, DeviceClass, Kind, State, name_queue


def test_transitions_are_defined_for_every_state() -> None:
    assert set(TRANSITIONS) == set(State)


def test_each_kind_and_device_class_has_its_own_queue() -> None:
    queues = {name_queue(kind, device) for kind in Kind for device in DeviceClass}
    assert len(queues) == len(Kind) * len(DeviceClass)
    assert "knn.cpu" in queues


def test_ids_are_unique_and_ascending_and_are_recognised() -> None:
    ids = [make_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert all(is_id(name) for name in ids)
    assert not any(is_id(name) for name in ("", "x", ids[0].upper(), ids[0] + "\n", "{" + ids[0] + "}"))
