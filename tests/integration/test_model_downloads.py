"""A real worker downloads models from a hub that hangs, and runs the jobs whose model is ready."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest
from flask.testing import FlaskClient

from shared.database import queries, transitions
from shared.database.tables import Job
from shared.jobs import State
from shared.kinds.musicgen.catalogue import TINY, builtin_folder
from shared.services import Services
from shared.settings import Settings
from shared.submission.submit import submit_job
from tests.integration.conftest import StartProcess
from tests.support.fake_hub import FakeHub
from tests.support.processes import ServiceProcess
from tests.support.waiting import wait_until
from worker.engines.musicgen.model.builtin_model import build_tiny
from worker.engines.musicgen.model.download import CHUNK_BYTES

SMALL: Final = "facebook/musicgen-small"
MEDIUM: Final = "facebook/musicgen-medium"
WEIGHTS: Final = "model.safetensors"
HOLD_AT: Final = 4 * CHUNK_BYTES

# These tests run on SQLite only: `test_downloads` covers everything that depends on the database.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def hub(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that sends only the first bytes of the weights of its models, until it is released."""
    folder = builtin_folder(settings)
    folder.parent.mkdir(parents=True)
    build_tiny(folder)
    with FakeHub() as hub:
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        hub.models = {SMALL: files, MEDIUM: files}
        hub.hold_at = HOLD_AT
        for name in [name for name in os.environ if name.startswith(("HF_", "HUGGINGFACE_", "TRANSFORMERS_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "secret")
        yield hub
        hub.release()


@pytest.fixture
def worker(hub: FakeHub, start_process: StartProcess) -> ServiceProcess:
    """A worker of the hub's models, and a sweeper that wakes the worker."""
    assert hub.models
    start_process("shared.maintenance")
    return start_process("worker", "--device", "cpu:0", "--kinds", "musicgen")


def submit(services: Services, model: str) -> str:
    params = {"model": model, "prompts": ["rock"], "max_new_tokens": 13, "seed": 7}
    return submit_job(services, {"kind": "musicgen", "device": "cpu", "params": params})[0].id


def read(services: Services, job_id: str) -> Job:
    with services.database.reading() as session:
        return queries.get_job(session, job_id)


def wait_for(services: Services, job_id: str, state: State) -> Job:
    def look() -> Job | None:
        job = read(services, job_id)
        assert job.state == state or job.state in {State.QUEUED, State.RUNNING}, job.error
        return job if job.state == state else None

    return wait_until(look, f"job {job_id} to be {state}")  # type: ignore[return-value]  # a Job, never None


def wait_for_bytes(services: Services, job_id: str) -> None:
    """Wait until the first bytes of the weights are downloaded, and shown as the progress of a job in the queue."""

    def look() -> bool:
        job = read(services, job_id)
        assert job.state == State.QUEUED, job.error
        return job.progress_stage == "downloading" and (job.progress_done or 0) >= HOLD_AT

    wait_until(look, f"the progress of job {job_id}")


def find_downloads(worker: ServiceProcess) -> list[psutil.Process]:
    return [
        process for process in worker.list_children() if any("model.download" in part for part in process.cmdline())
    ]


def count_bytes(hub: FakeHub) -> int:
    return sum(asked.sent for asked in hub.list_gets(WEIGHTS))


def test_jobs_with_a_ready_model_run_while_two_downloads_hang(
    services: Services, hub: FakeHub, worker: ServiceProcess
) -> None:
    waiting = [submit(services, SMALL), submit(services, MEDIUM)]
    for job_id in waiting:
        wait_for_bytes(services, job_id)
    ready = [submit(services, TINY) for _ in range(2)]
    for job_id in ready:
        wait_for(services, job_id, State.SUCCEEDED)
    assert {read(services, job_id).state for job_id in waiting} == {State.QUEUED}
    hub.release()
    for job_id in waiting:
        assert wait_for(services, job_id, State.SUCCEEDED).attempt == 1
    assert {asked.authorization for asked in hub.asked} == {"Bearer secret"}
    assert worker.process.poll() is None


def test_a_killed_worker_continues_the_download(services: Services, hub: FakeHub, worker: ServiceProcess) -> None:
    job_id = submit(services, SMALL)
    wait_for_bytes(services, job_id)
    downloads = find_downloads(worker)
    [child] = [process for process in worker.list_children() if process.ppid() == worker.process.pid]
    os.kill(child.pid, signal.SIGKILL)
    psutil.wait_procs(downloads)
    assert read(services, job_id).state == State.QUEUED
    hub.release()
    assert wait_for(services, job_id, State.SUCCEEDED).attempt == 1
    assert [asked.range for asked in hub.list_gets(WEIGHTS)] == [None, f"bytes={HOLD_AT}-"]
    assert count_bytes(hub) == len(hub.models[SMALL][WEIGHTS])


def test_a_worker_that_is_stopped_leaves_the_job_to_the_next_worker(
    services: Services, hub: FakeHub, worker: ServiceProcess, start_process: StartProcess
) -> None:
    job_id = submit(services, SMALL)
    wait_for_bytes(services, job_id)
    downloads = find_downloads(worker)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    psutil.wait_procs(downloads)
    assert read(services, job_id).state == State.QUEUED
    hub.release()
    start_process("worker", "--device", "cpu:0", "--kinds", "musicgen")
    assert wait_for(services, job_id, State.SUCCEEDED).attempt == 1
    assert [asked.range for asked in hub.list_gets(WEIGHTS)] == [None, f"bytes={HOLD_AT}-"]


def test_the_download_of_a_cancelled_job_stops_and_continues_for_the_next_job(
    services: Services, hub: FakeHub, worker: ServiceProcess
) -> None:
    job_id = submit(services, SMALL)
    wait_for_bytes(services, job_id)
    [download] = find_downloads(worker)
    assert transitions.cancel(services.database, job_id).state == State.CANCELLED
    psutil.wait_procs([download])
    hub.release()
    assert wait_for(services, submit(services, SMALL), State.SUCCEEDED).attempt == 1
    assert [asked.range for asked in hub.list_gets(WEIGHTS)] == [None, f"bytes={HOLD_AT}-"]


def test_no_request_is_sent_for_a_model_that_is_not_allowed(
    client: FlaskClient, services: Services, hub: FakeHub, worker: ServiceProcess
) -> None:
    params = {"model": "someone/private", "prompts": ["rock"], "max_new_tokens": 13}
    response = client.post("/api/v1/jobs", json={"kind": "musicgen", "params": params})
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json["errors"]] == ["/params/model"]  # type: ignore[index]
    # An earlier version of the service, or a machine with other settings, has queued the job.
    elsewhere = services.settings.model_copy(update={"models_allowed": "*"})
    queued = submit(Services(elsewhere, services.database, services.files, services.broker), "someone/private")
    job = wait_for(services, queued, State.FAILED)
    assert job.error is not None
    assert job.error["type"] == "model-not-allowed"
    assert hub.asked == []
    assert worker.process.poll() is None
