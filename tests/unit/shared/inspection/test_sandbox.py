"""The process that reads what anyone may upload can reach nothing, and however it ends, an answer comes of it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import psutil
import pytest

from shared.database.migrate import ROOT
from shared.inspection import sandbox
from shared.inspection.restrictions import LIBRARY_BYTES, MAX_CPUS, MAX_FILES, NICENESS
from shared.inspection.sandbox import (
    MAX_ANSWER_BYTES,
    Answer,
    NotWantedError,
    ProcessLostError,
    SandboxedProcess,
)
from shared.texts import Text, text
from tests.support import probe_inspectors
from tests.support.probe_inspectors import MODULE
from tests.support.waiting import DEADLINE_S, wait_until

pytestmark = pytest.mark.slow

CONTENT: Final = b"k,a\nx,1\n"
DIED: Final = text("inspection-died", memory_mb=256)
MEMORY_MB: Final = 256
SHORT_S: Final = 1.0
"""For inspections that never end by themselves."""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        yield file


@contextmanager
def start(
    probe: Callable[..., object], *, memory_mb: int = MEMORY_MB, timeout_s: float = DEADLINE_S
) -> Iterator[SandboxedProcess]:
    with closing(SandboxedProcess(f"{MODULE}:{probe.__name__}", memory_mb, timeout_s)) as process:
        yield process


def inspect(given: BinaryIO, probe: Callable[..., object], *, timeout_s: float = DEADLINE_S, **options: Any) -> Answer:
    with start(probe, timeout_s=timeout_s) as process:
        answer = process.inspect(given, options, lambda: True)
        assert not psutil.pid_exists(process.id)
        return answer


def find_out(given: BinaryIO, probe: Callable[..., object], **options: Any) -> dict[str, Any]:
    answer = inspect(given, probe, **options)
    assert answer.facts is not None, answer
    return answer.facts


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    secret = tmp_path / "secret"
    secret.write_text("of this instance")
    return secret


def report(given: BinaryIO, **options: Any) -> dict[str, Any]:
    return find_out(given, probe_inspectors.report, **options)


def test_process_has_no_environment_and_no_files_but_its_input_and_its_answer(
    file: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("MINDJOBS_DATABASE_URL", "postgresql://secret")
    inherited = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(inherited, True)  # noqa: FBT003 - its only form
    try:
        found = report(file)
    finally:
        os.close(inherited)
    assert found["content"] == CONTENT.decode()
    assert found["environment"] == {}
    assert list(found["descriptors"]) == ["0", "1", "2"]
    source, answer, log = found["descriptors"].values()
    assert source == str(Path(f"/proc/self/fd/{file.fileno()}").readlink())
    assert answer.startswith("pipe:")
    assert log == os.devnull
    assert found["writable"] == [1, 2]


def test_initial_environment_of_the_process_is_empty_too() -> None:
    with start(probe_inspectors.report) as process:
        wait_until(lambda: psutil.Process(process.id).cmdline()[1:2] == ["-I"], "the program")
        assert psutil.Process(process.id).environ() == {}


def test_process_is_limited_niced_and_cannot_gain_rights(file: BinaryIO) -> None:
    found = report(file)
    limits = found["limits"]
    assert limits["AS"] == [MEMORY_MB * 2**20 + LIBRARY_BYTES] * 2
    assert limits["CPU"] == [DEADLINE_S, DEADLINE_S + 1]
    assert (limits["FSIZE"], limits["CORE"], limits["NOFILE"]) == ([0, 0], [0, 0], [MAX_FILES, MAX_FILES])
    assert found["niceness"] == os.nice(0) + NICENESS or found["niceness"] == 19
    assert found["cpus"] <= MAX_CPUS
    assert (found["no_new_privs"], found["session"]) == (1, True)
    assert found["tried"]["raise a limit"] != "done"


def test_process_reaches_no_network_no_process_and_no_other_file(file: BinaryIO, secret: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        tried = report(file, file=str(secret), port=server.getsockname()[1])["tried"]
    allowed = {name for name, outcome in tried.items() if outcome == "done"}
    assert allowed == {"thread", "import"}
    assert secret.read_text() == "of this instance"
    assert not Path(f"{secret}.new").exists()


def test_file_that_has_been_deleted_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        path.unlink()
        assert report(file)["content"] == CONTENT.decode()


def test_refused_file_has_the_problem_of_the_inspector(file: BinaryIO) -> None:
    assert inspect(file, probe_inspectors.refuse) == Answer(problem=text("upload-empty"))


def test_places_that_the_problem_names_are_kept(file: BinaryIO) -> None:
    places = tuple(text("line-nul", line=line) for line in (3, 5))
    assert inspect(file, probe_inspectors.refuse_places) == Answer(problem=Text("bad-cells", {"count": 2}, places))


def test_defect_of_an_inspector_is_logged(file: BinaryIO, caplog: pytest.LogCaptureFixture) -> None:
    assert inspect(file, probe_inspectors.fail) == Answer(problem=text("inspection-failed"))
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("probe", [probe_inspectors.take_memory, probe_inspectors.share_memory])
def test_memory_is_limited(file: BinaryIO, probe: Callable[..., object]) -> None:
    assert inspect(file, probe) == Answer(problem=text("inspection-too-large", memory_mb=MEMORY_MB))


@pytest.mark.parametrize("probe", [probe_inspectors.compute, probe_inspectors.compute_politely, probe_inspectors.wait])
def test_time_is_limited(file: BinaryIO, probe: Callable[..., object]) -> None:
    assert inspect(file, probe, timeout_s=SHORT_S) == Answer(problem=text("inspection-too-slow", limit_s=SHORT_S))


def test_processor_time_is_limited(file: BinaryIO, monkeypatch: pytest.MonkeyPatch) -> None:
    process = SandboxedProcess(f"{MODULE}:compute_politely", MEMORY_MB, SHORT_S)
    monkeypatch.setattr(process, "_timeout_s", DEADLINE_S)
    answer = process.inspect(file, {}, lambda: True)
    assert answer.problem is not None
    assert answer.problem.code == "inspection-too-slow"


def test_processes_cannot_be_started_and_threads_are_limited(file: BinaryIO) -> None:
    assert find_out(file, probe_inspectors.fork_bomb) == {"started": False}
    assert find_out(file, probe_inspectors.start_threads)["threads"] < 1_000


def test_nothing_can_be_written(file: BinaryIO, tmp_path: Path) -> None:
    assert find_out(file, probe_inspectors.fill_disk, folder=str(tmp_path)) == {"written": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGSYS])
def test_process_that_a_signal_ends_makes_the_file_unreadable(file: BinaryIO, number: int) -> None:
    assert inspect(file, probe_inspectors.die, signal=number) == Answer(problem=DIED)


@pytest.mark.parametrize("status", [0, 1])
def test_process_that_ends_without_an_answer_makes_the_file_unreadable(file: BinaryIO, status: int) -> None:
    assert inspect(file, probe_inspectors.leave, status=status) == Answer(problem=DIED)


@pytest.mark.parametrize(
    "answer",
    [
        "nonsense",
        "[]",
        '{"facts": []}',
        '{"facts": {}}',
        '{"facts": {}, "refused": []',
        '{"facts": {"n": NaN}, "refused": []}',
        '{"facts": {"n": 1e999}, "refused": []}',
        '{"facts": {"n": ' + "9" * 5_000 + '}, "refused": []}',
        "[" * 100_000,
        '{"problem": {"code": "<b>", "values": {}}}',
        '{"problem": "code"}',
        '{"problem": {"code": "sound-silent", "values": {}}}',
        '{"problem": {"code": "sound-rate", "values": {"rate_hz": 1}}}',
        '{"problem": {"code": "sound-silent", "values": {"level_dbfs": ' + "9" * 400 + "}}}",
        "\x00",
    ],
)
def test_answer_of_another_form_makes_the_file_unreadable(file: BinaryIO, answer: str) -> None:
    assert inspect(file, probe_inspectors.write, answer=answer[:60_000]) == Answer(problem=DIED)


def test_answer_is_not_read_to_its_end_if_it_is_too_long(file: BinaryIO) -> None:
    problem = text("inspection-answer-too-long", max_bytes=MAX_ANSWER_BYTES)
    assert inspect(file, probe_inspectors.flood) == Answer(problem=problem)


def test_bytes_that_were_made_of_the_file_follow_the_facts(file: BinaryIO) -> None:
    answer = inspect(file, probe_inspectors.make_bytes, count=1_000)
    assert answer == Answer(facts={"n": 1_000}, content=bytes(range(256)) * 1_000)


def test_caller_decides_how_long_an_answer_may_be(file: BinaryIO) -> None:
    def ask(max_answer_bytes: int) -> Answer:
        function = f"{MODULE}:{probe_inspectors.make_bytes.__name__}"
        with closing(SandboxedProcess(function, MEMORY_MB, DEADLINE_S, max_answer_bytes)) as process:
            return process.inspect(file, {"count": 1}, lambda: True)

    facts = len(b'{"facts": {"n": 1}, "refused": []}\n')
    assert ask(facts + 256).content == bytes(range(256))
    assert ask(facts + 255) == Answer(problem=text("inspection-answer-too-long", max_bytes=facts + 255))


def test_process_that_stays_after_its_answer_is_killed(file: BinaryIO) -> None:
    assert inspect(file, probe_inspectors.close_and_stay) == Answer(problem=DIED)


def test_characters_that_a_database_cannot_store_are_replaced(file: BinaryIO) -> None:
    found = find_out(file, probe_inspectors.tell, facts={"a\0": ["\0b", "\ud800c"], "d": 1.5})
    assert found == {
        "a\N{REPLACEMENT CHARACTER}": ["\N{REPLACEMENT CHARACTER}b", "\N{REPLACEMENT CHARACTER}c"],
        "d": 1.5,
    }


def test_process_is_killed_if_its_answer_is_not_wanted_any_more(
    file: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "KEEP_WAITING_INTERVAL_S", 0.0)
    with start(probe_inspectors.wait) as process:
        with pytest.raises(NotWantedError):
            process.inspect(file, {}, lambda: False)
        assert not psutil.pid_exists(process.id)


def test_process_that_has_ended_before_it_got_a_file_is_reported(file: BinaryIO) -> None:
    with start(probe_inspectors.report) as process:
        os.kill(process.id, signal.SIGKILL)
        wait_until(lambda: not is_running(psutil.Process(process.id)), "the end of the process")
        with pytest.raises(ProcessLostError):
            process.inspect(file, {}, lambda: True)


def test_inspector_that_cannot_be_imported_is_logged_and_not_tried_without_end(
    file: BinaryIO, caplog: pytest.LogCaptureFixture
) -> None:
    process = SandboxedProcess("tests.support.no_such_module:inspect", MEMORY_MB, DEADLINE_S)
    wait_until(lambda: not is_running(psutil.Process(process.id)), "the end of the process")
    assert process.inspect(file, {}, lambda: True) == Answer(problem=text("inspection-failed"))
    assert "no_such_module" in caplog.text


# A parent with one process that waits for a file, and one that inspects without end.
PARENT: Final = f"""
import sys, tempfile, threading
from shared.inspection.sandbox import SandboxedProcess
processes = [SandboxedProcess("{MODULE}:wait", 256, {DEADLINE_S}) for _ in range(2)]
print(*(process.id for process in processes), flush=True)
processes[0].inspect(tempfile.TemporaryFile(), {{}}, lambda: True)
"""


def test_no_process_outlives_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        ids = [int(word) for word in parent.stdout.readline().split()]
        assert len(ids) == 2
        children = [psutil.Process(child) for child in ids]
        parent.kill()
        for child in children:
            wait_until(lambda child=child: not is_running(child), "the end of a child")  # type: ignore[misc]  # a default of a lambda


def is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_restriction_that_the_system_refuses_is_logged_once(file: BinaryIO, caplog: pytest.LogCaptureFixture) -> None:
    answer = json.dumps({"facts": {}, "refused": [threading.current_thread().name]})
    for _ in range(2):
        assert inspect(file, probe_inspectors.write, answer=answer) == Answer(facts={})
    assert caplog.text.count(threading.current_thread().name) == 1
