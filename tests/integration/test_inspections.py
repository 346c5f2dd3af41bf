"""Uploads are inspected one at a time, in turns, whatever happens to them and to the process that inspects."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from sqlalchemy import insert, select, update

from shared.database import inspections
from shared.database.connection import now
from shared.database.tables import Upload
from shared.errors import NotFoundError
from shared.files.keys import upload_key
from shared.ids import make_id
from shared.inspection import runner, sandbox
from shared.inspection.inspectors import INSPECTORS
from shared.inspection.runner import MAX_ATTEMPTS, InspectionRunner
from shared.inspection.upload_kinds import InspectionState, UploadKind
from shared.maintenance.clock import correct_times
from shared.services import Services
from shared.settings import Settings
from shared.submission.delete import delete_upload
from shared.texts import text
from tests.integration.conftest import StartProcess
from tests.support.disks import list_keys
from tests.support.inspections import MEASURE, run_inspections
from tests.support.processes import ServiceProcess
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until

SWEEPER: Final = "tests.integration.probing_sweeper"
LONG_S: Final = 86_400.0


@pytest.fixture(autouse=True)
def _measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(INSPECTORS, UploadKind.TABLE, MEASURE)


def add(services: Services, content: bytes = b"a,b\n", owner: str = "me", **columns: Any) -> str:
    """Store an upload that is not inspected, and wake nobody."""
    upload_id = make_id()
    stored = services.files.put(upload_key(upload_id), [content])
    row = {
        "id": upload_id,
        "owner": owner,
        "key": stored.key,
        "media_type": "text/csv",
        "bytes": stored.bytes,
        "sha256": stored.sha256,
        "created_at": now(),
        "kind": UploadKind.TABLE,
        "inspection_state": InspectionState.PENDING,
    }
    with services.database.writing() as session:
        session.execute(insert(Upload).values(row | columns))
    return upload_id


def read(services: Services, upload_id: str, owner: str = "me") -> Upload:
    with services.database.reading() as session:
        return inspections.find_with_facts(session, [upload_id], owner)[upload_id]


def list_inspected(services: Services) -> set[str]:
    with services.database.reading() as session:
        return set(session.scalars(select(Upload.id).where(Upload.inspection_state != InspectionState.PENDING)))


def wait_for(services: Services, upload_id: str) -> Upload:
    wait_until(lambda: upload_id in list_inspected(services), "the inspection")
    return read(services, upload_id)


def wait_for_attempt(services: Services, upload_id: str, attempt: int = 1) -> None:
    wait_until(lambda: read(services, upload_id).inspection_attempt == attempt, "an attempt")


def expire(services: Services, upload_id: str) -> None:
    with services.database.writing() as session:
        session.execute(update(Upload).where(Upload.id == upload_id).values(inspection_due_at=now(-1)))


def list_children(*processes: ServiceProcess) -> list[psutil.Process]:
    """List the processes that inspect, or wait for a file to inspect."""
    return [child for process in processes for child in process.list_children()]


def kill_children(sweeper: ServiceProcess) -> set[int]:
    """Kill the processes of a sweeper, one for each kind of upload; return their ids."""
    wait_until(lambda: len(list_children(sweeper)) == len(INSPECTORS), "the processes")
    children = list_children(sweeper)
    for child in children:
        child.kill()
    return {child.pid for child in children}


def test_facts_or_the_problem_are_stored_with_the_upload(services: Services) -> None:
    readable, unreadable = add(services, b"a,b\n1,2\n"), add(services, b"refuse")
    inspector = InspectionRunner(services, prepares=False)
    assert [inspector.inspect_next() for _ in range(3)] == [True, True, False]
    found = read(services, readable)
    assert found.facts is not None
    assert (found.inspection_state, found.facts["bytes"], found.problem) == ("ready", 8, None)
    refused = read(services, unreadable)
    assert (refused.inspection_state, refused.facts) == ("unreadable", None)
    assert refused.problem == text("upload-empty").serialize()
    assert (found.inspection_due_at, refused.inspection_due_at) == (None, None)


def test_owners_take_turns_and_requested_uploads_are_before_new_ones_and_new_before_old(services: Services) -> None:
    mine, theirs = [add(services) for _ in range(4)], [add(services, owner="other") for _ in range(2)]
    inspections.request(services.database, mine[0], {})
    order: list[str] = []
    inspector = InspectionRunner(services, prepares=False)
    while inspector.inspect_next():
        (new,) = list_inspected(services) - set(order)
        order.append(new)
    assert [upload_id for upload_id in order if upload_id in mine] == [mine[0], mine[3], mine[2], mine[1]]
    assert [upload_id for upload_id in order if upload_id in theirs] == theirs[::-1]
    assert {order[0] in mine, order[1] in mine} == {True, False}
    assert {order[2] in mine, order[3] in mine} == {True, False}


def test_uploads_of_kinds_without_an_inspector_are_left_alone(services: Services) -> None:
    add(services, kind="video")
    add(services, kind=UploadKind.AUDIO, inspection_state=None)
    assert not InspectionRunner(services).inspect_next()


def test_missing_file_is_unreadable(services: Services) -> None:
    upload_id = add(services)
    services.files.remove(upload_key(upload_id))
    assert InspectionRunner(services, prepares=False).inspect_next()
    assert read(services, upload_id).problem == text("upload-file-missing").serialize()


def test_upload_is_unreadable_if_its_inspector_was_lost_in_every_attempt(services: Services) -> None:
    upload_id = add(services, inspection_attempt=MAX_ATTEMPTS, inspection_due_at=now(-1))
    assert InspectionRunner(services, prepares=False).inspect_next()
    assert read(services, upload_id).problem == text("inspection-lost", attempts=MAX_ATTEMPTS).serialize()


def test_upload_is_inspected_later_if_no_process_can_be_started(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise BlockingIOError("no more processes")

    upload_id, inspector = add(services), InspectionRunner(services, prepares=False)
    with monkeypatch.context() as patch:
        patch.setattr(runner, "start_process", fail)
        assert inspector.inspect_next()
    assert not inspector.inspect_next()
    assert read(services, upload_id).inspection_state == "pending"
    expire(services, upload_id)
    assert inspector.inspect_next()
    assert read(services, upload_id).inspection_state == "ready"


def test_outcome_of_an_attempt_that_lost_its_lease_is_dropped(services: Services) -> None:
    upload_id = add(services)
    first = inspections.claim(services.database, "me", INSPECTORS, -1.0)
    second = inspections.claim(services.database, "me", INSPECTORS, LONG_S)
    assert first is not None
    assert second is not None
    assert (first.inspection_attempt, second.inspection_attempt) == (1, 2)
    lost, held = (inspections.Claim.of(upload) for upload in (first, second))
    assert not inspections.delay(services.database, lost, LONG_S)
    assert not inspections.finish(services.database, lost, facts={"bytes": 0}, problem=None)
    assert inspections.finish(services.database, held, facts={"bytes": 1}, problem=None)
    assert read(services, upload_id).facts == {"bytes": 1}


def test_an_upload_is_inspected_again_if_it_is_read_with_other_options(services: Services) -> None:
    upload_id, inspector = add(services), InspectionRunner(services, prepares=False)
    assert inspector.inspect_next()
    inspections.request(services.database, upload_id, {})
    assert not inspector.inspect_next()
    for options in ({"header": False}, {"header": True}, {}):
        inspections.request(services.database, upload_id, options)
        waiting = read(services, upload_id)
        assert (waiting.inspection_state, waiting.facts) == ("pending", None)
        inspections.request(services.database, upload_id, {"header": None})  # a pending one is not disturbed
        assert inspector.inspect_next()
        found = read(services, upload_id)
        assert found.facts is not None
        assert (found.facts["options"], found.inspection_attempt) == (options, 1)


def test_outcome_of_an_attempt_with_other_options_is_dropped(services: Services) -> None:
    upload_id = add(services)
    first = inspections.claim(services.database, "me", INSPECTORS, LONG_S)
    assert first is not None
    held = inspections.Claim.of(first)
    assert inspections.finish(services.database, held, facts={"bytes": 0}, problem=None)
    inspections.request(services.database, upload_id, {"header": False})
    assert inspections.claim(services.database, "me", INSPECTORS, LONG_S) is not None
    assert not inspections.finish(services.database, held, facts={"bytes": 1}, problem=None)


def test_message_wakes_the_inspector(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK_INTERVAL_S", LONG_S)
    first = add(services)
    with run_inspections(services):
        wait_for(services, first)
        second = add(services)
        services.broker.wake_inspector()
        wait_for(services, second)


def test_uploads_are_inspected_without_redis(
    settings: Settings,
    own_redis: RedisServer,
    open_services: Callable[[Settings], Services],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "LOOK_INTERVAL_S", 0.1)
    services = open_services(settings.model_copy(update={"redis_url": own_redis.url}))
    with run_inspections(services):
        wait_for(services, add(services))
        own_redis.stop()
        upload_id = add(services)
        assert not services.broker.wake_inspector()
        wait_for(services, upload_id)


def test_deletion_ends_the_inspection_and_leaves_nothing(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "KEEP_WAITING_INTERVAL_S", 0.05)
    upload_id = add(services, b"wait")
    with run_inspections(services):
        wait_for_attempt(services, upload_id)
        delete_upload(services, upload_id, "me")
        other = add(services)
        services.broker.wake_inspector()
        wait_for(services, other)
    assert not [child for child in psutil.Process().children(recursive=True) if "measure" in " ".join(child.cmdline())]
    assert list_keys(services.files, "uploads") == [upload_key(other)]
    with pytest.raises(NotFoundError):
        delete_upload(services, upload_id, "me")


def test_lost_sweeper_leaves_no_process_and_another_sweeper_inspects_again(
    services: Services, start_process: StartProcess
) -> None:
    upload_id = add(services, b"wait")
    first = start_process(SWEEPER)
    wait_for_attempt(services, upload_id)
    children = list_children(first)
    assert children
    second = start_process(SWEEPER)
    first.process.send_signal(signal.SIGKILL)
    first.wait()
    wait_until(lambda: not any(map(is_running, children)), "the end of the processes")
    replace(services, upload_id, b"a,b\n")
    expire(services, upload_id)
    assert wait_for(services, upload_id).inspection_attempt == 2
    assert second.process.poll() is None


def is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def replace(services: Services, upload_id: str, content: bytes) -> None:
    services.files.put(upload_key(upload_id), [content])


def test_one_upload_is_inspected_at_a_time_even_with_two_sweepers(
    services: Services, start_process: StartProcess
) -> None:
    waiting = {add(services, b"wait", owner=owner): owner for owner in ("me", "other")}
    sweepers = [start_process(SWEEPER) for _ in range(2)]
    line = "another process of this machine inspects uploads"
    wait_until(lambda: any(line in sweeper.read_log() for sweeper in sweepers), "the second to find the lock")

    def list_attempts() -> list[int]:
        return sorted(read(services, upload_id, owner).inspection_attempt for upload_id, owner in waiting.items())

    wait_until(lambda: list_attempts() != [0, 0], "an attempt")
    services.broker.wake_inspector()
    services.broker.wake_inspector()
    assert list_attempts() == [0, 1]
    # One process for each kind of upload, one of which inspects.
    children = len(INSPECTORS)
    wait_until(
        lambda: sorted(len(list_children(sweeper)) for sweeper in sweepers) == [0, children], "one sweeper's processes"
    )


def test_killed_inspection_makes_its_upload_unreadable_and_the_next_is_inspected(
    services: Services, start_process: StartProcess
) -> None:
    upload_id = add(services, b"wait")
    sweeper = start_process(SWEEPER)
    wait_for_attempt(services, upload_id)
    killed = kill_children(sweeper)
    found = wait_for(services, upload_id)
    assert found.problem == text("inspection-died", memory_mb=services.settings.inspection_memory_mb).serialize()
    other = add(services)
    services.broker.wake_inspector()
    facts = wait_for(services, other).facts
    assert facts is not None
    assert facts["process"] not in killed | {sweeper.process.pid, os.getpid()}


def test_process_that_waits_for_a_file_may_be_lost(services: Services, start_process: StartProcess) -> None:
    sweeper = start_process(SWEEPER)
    kill_children(sweeper)
    upload_id = add(services)
    services.broker.wake_inspector()
    assert wait_for(services, upload_id).inspection_state == "ready"


def test_lease_is_limited_after_the_clock_was_set_back(services: Services) -> None:
    upload_id = add(services)
    assert inspections.claim(services.database, "me", INSPECTORS, LONG_S) is not None
    correct_times(services)
    found = read(services, upload_id)
    assert found.inspection_due_at is not None
    assert (found.inspection_due_at - found.created_at).total_seconds() < LONG_S / 2


def test_foreign_data_under_the_name_of_the_list_is_deleted(services: Services) -> None:
    services.broker._redis.set("mindjobs.uploads", "x")
    assert not services.broker.wake_inspector()
    services.broker.repair()
    assert services.broker.wake_inspector()


def test_lock_is_in_the_state_folder(services: Services) -> None:
    with run_inspections(services):
        wait_until(lambda: Path(services.settings.home, runner.LOCK_NAME).exists(), "the lock")
