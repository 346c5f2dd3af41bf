"""A complete instance, as `make up` runs it: it starts, runs jobs, and stops without leaving a process."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

import psutil
import pytest

from shared.database.migrate import ROOT
from shared.instance.processes import list_processes
from shared.jobs import Kind
from shared.settings import Settings
from tests.conftest import SHORT_INTERVALS
from tests.support.instances import (
    ask,
    call,
    find_program,
    make_settings,
    read_command,
    read_name,
    run_job,
    start_by_make,
    wait_for_ready,
)
from tests.support.permissions import PRIVATE_UMASK, find_readable, list_umasks
from tests.support.processes import ServiceProcess, make_environment
from tests.support.waiting import DEADLINE_S, wait_until

JOBS = {
    Kind.KNN: {"kind": "knn", "params": {"k": 5}},
    Kind.MUSICGEN: {"kind": "musicgen", "params": {"model": "mindjobs/tiny", "prompts": ["pop"], "duration_s": 0.1}},
}
MAX_STOP_S = 15

StartInstance = Callable[..., ServiceProcess]


@pytest.fixture
def settings() -> Iterator[Settings]:
    with make_settings(**SHORT_INTERVALS) as settings:
        yield settings


@pytest.fixture
def instance(settings: Settings, tmp_path: Path) -> Iterator[ServiceProcess]:
    process = ServiceProcess("shared.instance.up", settings=settings, log=tmp_path / "up.log")
    yield process
    process.close()


@pytest.fixture
def start_instance(settings: Settings, tmp_path: Path) -> Iterator[StartInstance]:
    """Return a function that starts an instance, by ``make up`` if requested."""
    started: list[ServiceProcess] = []

    def start(*, by_make: bool = False) -> ServiceProcess:
        log = tmp_path / f"up-{len(started)}.log"
        started.append(
            start_by_make(settings, log)
            if by_make
            else ServiceProcess("shared.instance.up", settings=settings, log=log)
        )
        return started[-1]

    yield start
    for process in started:
        process.close()


def loads_mindspore(process: psutil.Process) -> bool:
    return any("mindspore" in mapped.path for mapped in process.memory_maps())


def find_worker(instance: ServiceProcess, kind: str) -> psutil.Process | None:
    workers = [child for child in instance.list_children() if read_command(child)[-1:] == [kind]]
    return next((worker for worker in workers if worker.parent() not in workers), None)


def test_instance_runs_a_job_and_then_restarts_a_dead_worker_and_then_stops(
    instance: ServiceProcess, settings: Settings
) -> None:
    wait_for_ready(instance, settings)
    params = {"k": 5, "normalise": "zscore", "weights": "distance", "evaluation": {"method": "loo"}}
    job = run_job(settings, {"kind": "knn", "params": params})
    assert job["state"] == "succeeded", job
    assert job["result"]["scores"][0]["accuracy"] == pytest.approx(173 / 178)
    assert call(settings, f"/api/v1/jobs/{job['id']}") == job
    assert {artifact["name"] for artifact in job["artifacts"]} >= {"predictions.csv", "scatter.svg", "report.json"}

    parent = find_worker(instance, "knn")
    assert parent is not None
    (child,) = parent.children()
    assert loads_mindspore(child)
    assert not loads_mindspore(parent)
    for process in instance.list_children():
        if "gunicorn" in " ".join(read_command(process)):
            assert not loads_mindspore(process)

    # Other users of the machine can read nothing of it.
    assert set(list_umasks(instance)) == {PRIVATE_UMASK}
    assert find_readable(settings.home) == []

    # A worker that dies is restarted, and runs jobs again.
    parent.kill()
    wait_until(lambda: find_worker(instance, "knn") not in {None, parent}, "the worker's return")
    again = run_job(settings, {"kind": "knn", "params": params})
    assert again["result"]["scores"] == job["result"]["scores"]

    assert instance.list_children()
    instance.signal(signal.SIGTERM)
    instance.wait()
    wait_until(lambda: instance.list_survivors() == [], "the end of all processes")
    assert list(settings.home.rglob(".part-*")) == []


def kill_and_wait(instance: ServiceProcess, victim: psutil.Process, children: list[psutil.Process]) -> None:
    """Kill a process, and wait until it and its children have ended and the program has as many processes again."""
    name, count = read_name(victim), len(find_program(instance, read_name(victim)))
    victim.kill()
    wait_until(lambda: {victim, *children}.isdisjoint(instance.list_survivors()), f"the end of {name}")
    wait_until(lambda: len(find_program(instance, name)) == count, f"the return of {name}")


def answers(port: int) -> bool:
    """Return whether the web answers that it is ready."""
    try:
        return ask(port, "/readyz") == HTTPStatus.OK
    except (OSError, HTTPException):
        return False


def test_new_instance_starts_at_once_after_make_or_up_or_supervisor_was_killed(
    start_instance: StartInstance, settings: Settings
) -> None:
    killed: list[ServiceProcess] = []
    for victim in ("make", "up", "supervisor"):
        instance = start_instance(by_make=victim == "make")
        wait_for_ready(instance, settings)
        for process in find_program(instance, "worker-knn"):
            process.suspend()  # it cannot notice that its parent has ended
        if victim == "supervisor":
            (supervisor,) = psutil.Process(instance.process.pid).children()
            supervisor.kill()
            assert instance.wait() == 1
            assert "Supervisor was ended by SIGKILL" in instance.read_log()
            assert "Traceback" not in instance.read_log()
        else:
            instance.signal(signal.SIGKILL)
            instance.wait()
        killed.append(instance)
        # The next instance starts at once, without waiting for the end of the processes.
    last = start_instance()
    wait_for_ready(last, settings)
    assert [instance.list_survivors() for instance in killed] == [[], [], []]
    assert run_job(settings, JOBS[Kind.KNN])["state"] == "succeeded"


def test_instance_runs_jobs_again_after_any_other_process_was_killed(
    instance: ServiceProcess, settings: Settings
) -> None:
    wait_for_ready(instance, settings)
    names = {process.name for process in list_processes(settings) if not process.once}
    assert names == {"redis", "sweeper", "web", "worker-knn", "worker-musicgen"}
    for name in sorted(names):
        kind = Kind.MUSICGEN if name == "worker-musicgen" else Kind.KNN
        parent, *children = find_program(instance, name)
        assert bool(children) == (name not in {"redis", "sweeper"})
        if children:
            kill_and_wait(instance, children[0], [])
            assert run_job(settings, JOBS[kind])["state"] == "succeeded"
            parent, *children = find_program(instance, name)
            for child in children:
                child.suspend()  # it cannot notice that its parent has ended
        kill_and_wait(instance, parent, children)
        wait_until(lambda: answers(settings.port), "the web")
        assert run_job(settings, JOBS[kind])["state"] == "succeeded"


def test_instance_writes_its_output_to_a_socket(settings: Settings) -> None:
    """Some programs start others with a socket as standard output, and a socket cannot be opened by its path."""
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        subprocess.Popen(
            [sys.executable, "-m", "shared.instance.up"],
            cwd=ROOT,
            env=make_environment(settings),
            stdout=theirs.fileno(),
            stderr=theirs.fileno(),
            start_new_session=True,
        ) as instance,
    ):
        heard = b""
        ours.settimeout(DEADLINE_S)
        while f"\nREADY http://127.0.0.1:{settings.port}\n".encode() not in heard:
            part = ours.recv(4096)
            assert part, heard
            heard += part
        instance.send_signal(signal.SIGTERM)
        assert instance.wait(DEADLINE_S) == 0


def test_instance_stops_during_its_start(instance: ServiceProcess, settings: Settings) -> None:
    wait_until(lambda: len(instance.list_children()) >= len(list_processes(settings)), "its processes")
    instance.signal(signal.SIGINT)
    instance.wait()
    wait_until(lambda: instance.list_survivors() == [], "the end of all processes")


def test_second_instance_with_the_same_home_or_port_is_refused_with_the_reason(
    instance: ServiceProcess, settings: Settings, tmp_path: Path
) -> None:
    wait_for_ready(instance, settings)
    elsewhere = settings.model_copy(update={"home": settings.home.parent / "other"})
    for wrong, words in ((settings, "is in use by another instance"), (elsewhere, "Choose another port")):
        second = ServiceProcess("shared.instance.up", settings=wrong, log=tmp_path / "second.log")
        assert second.wait() == 1
        second.close()
        assert words in second.read_log()
        assert "Traceback" not in second.read_log()
    assert call(settings, "/readyz") == {"status": "ready"}


def test_sum_of_the_stop_times_is_below_the_limit(settings: Settings) -> None:
    longest: dict[int, int] = {}
    for process in list_processes(settings):  # processes with the same priority stop at the same time
        longest[process.priority] = max(longest.get(process.priority, 0), process.stop_s)
    assert sum(longest.values()) < MAX_STOP_S
