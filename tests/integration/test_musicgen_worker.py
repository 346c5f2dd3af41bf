"""A real worker runs whole music jobs: in turn with KNN jobs, after a kill, in one batch, and after a cancellation."""

import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from flask.testing import FlaskClient
from numpy.typing import NDArray
from scipy.io import wavfile
from sqlalchemy import select

from shared.database import queries, transitions
from shared.database.tables import Artifact, Job
from shared.files.keys import checkpoint_key
from shared.jobs import State
from shared.kinds.musicgen.catalogue import TINY, builtin_folder
from shared.services import Services
from shared.settings import Settings
from shared.submission.submit import submit_job
from tests.integration import paused_worker
from tests.integration.conftest import StartProcess
from tests.support.disks import path_on_disk
from tests.support.job_outcomes import expire_lease
from tests.support.processes import ServiceProcess
from tests.support.waiting import wait_until
from worker.engines.musicgen.music_checkpoint import ResumeState

# The position at which the batch pauses. A job with the default length of `submit` ends before this position.
# All other jobs reach this position.
PAUSE_AT = 200
LONG = {"max_new_tokens": 1_400, "num_samples": 6}

# These tests run on SQLite only: other tests, without a model, cover everything that depends on the database.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

Start = Callable[[str], ServiceProcess]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with enough slots for all jobs of a test in one batch."""
    return settings.model_copy(update={"musicgen_max_slots": 16})


@pytest.fixture
def resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a file; a paused batch continues when the test creates this file."""
    monkeypatch.setenv(paused_worker.PAUSE_AT, str(PAUSE_AT))
    monkeypatch.setenv(paused_worker.RESUME, str(tmp_path / "resume"))
    return tmp_path / "resume"


@pytest.fixture
def start(start_process: StartProcess, resume: Path) -> Iterator[Start]:
    """Return a function that starts a worker.

    A sweeper runs too: it sends the wake-up messages for jobs that were submitted before the worker started.
    """
    assert not resume.exists()
    sweeper = start_process("shared.maintenance")

    def start_worker(kinds: str) -> ServiceProcess:
        return start_process("tests.integration.paused_worker", "--device", "cpu:0", "--kinds", kinds)

    yield start_worker
    assert sweeper.process.poll() is None


def submit(services: Services, **params: Any) -> str:
    complete = {"model": TINY, "prompts": ["rock"], "max_new_tokens": 13, "seed": 7} | params
    return submit_job(services, {"kind": "musicgen", "device": "cpu", "params": complete})[0].id


def read(services: Services, job_id: str) -> Job:
    with services.database.reading() as session:
        return queries.get_job(session, job_id)


def wait_for(services: Services, job_id: str, state: State, worker: ServiceProcess) -> Job:
    def look() -> Job | None:
        assert worker.process.poll() is None, worker.read_log()
        job = read(services, job_id)
        assert job.state != State.FAILED, job.error
        return job if job.state == state else None

    return wait_until(look, f"job {job_id} to be {state}")  # type: ignore[return-value]  # the result is a Job


def wait_for_tokens(services: Services, job_id: str) -> int:
    """Wait until the checkpoint has ``PAUSE_AT`` positions of each sample; return the length of the shortest sample."""
    file = path_on_disk(services.files, checkpoint_key(job_id, 1))

    def look() -> int:
        job = read(services, job_id)
        assert job.state in {State.QUEUED, State.RUNNING}, "the job ended before it could be interrupted"
        if job.progress_stage != "generating" or not file.exists():
            return 0
        tokens = ResumeState.parse(file.read_bytes()).tokens
        positions = min((sample.shape[1] for sample in tokens), default=0)
        return positions if positions >= PAUSE_AT else 0

    return wait_until(look, "a checkpoint with the tokens so far")


def read_codes(services: Services, job_id: str) -> list[NDArray[np.int16]]:
    """Read the codes of every sample: one array of shape (codebooks, frames) per sample."""
    with services.database.reading() as session:
        query = select(Artifact).where(Artifact.job_id == job_id, Artifact.name.like("codes-%")).order_by(Artifact.name)
        return [np.load(path_on_disk(services.files, artifact.key)) for artifact in session.scalars(query)]


def download(client: FlaskClient, url: str) -> bytes:
    with client.get(url) as response:
        return bytes(response.data)


def test_one_worker_runs_musicgen_and_knn_jobs_in_turn(client: FlaskClient, services: Services, start: Start) -> None:
    worker = start("knn,musicgen")
    music = {"model": TINY, "prompts": ["rock"], "max_new_tokens": 13, "seed": 7}
    codes = []
    for _ in range(2):
        response = client.post("/api/v1/jobs", json={"kind": "musicgen", "device": "cpu", "params": music})
        assert response.status_code == 202
        wait_for(services, response.json["id"], State.SUCCEEDED, worker)  # type: ignore[index]  # json is not None
        job: Any = client.get(f"/api/v1/jobs/{response.json['id']}").json  # type: ignore[index]  # json is not None
        assert job["result"]["samples"][0]["duration_s"] == 0.2
        assert (job["engine"], job["device"], job["attempt"]) == ("openvino", "cpu", 1)
        files = {file["name"]: download(client, file["url"]) for file in job["artifacts"]}
        assert {file["name"]: file["bytes"] for file in job["artifacts"]} == {
            name: len(content) for name, content in files.items()
        }
        rate_hz, audio = wavfile.read(io.BytesIO(files["audio-0.wav"]))
        assert (rate_hz, audio.shape, audio.dtype) == (32_000, (6_400,), np.float32)
        assert files.keys() == {"audio-0.wav", "codes-0.npy", "waveform-0.svg", "spectrogram-0.png"}
        codes.append(files["codes-0.npy"])
        knn, _ = submit_job(services, {"kind": "knn", "device": "cpu", "params": {}})
        wait_for(services, knn.id, State.SUCCEEDED, worker)
    assert codes[0] == codes[1]


def test_the_attempt_after_a_kill_continues_from_the_checkpoint(services: Services, start: Start, resume: Path) -> None:
    worker = start("musicgen")
    job_id = submit(services, **LONG)
    positions = wait_for_tokens(services, job_id)
    [child] = [each for each in worker.list_children() if has_loaded("openvino", each)]
    assert not has_loaded("mindspore", child)
    os.kill(child.pid, signal.SIGKILL)
    expire_lease(services, job_id)

    def find_start() -> int | None:
        job = read(services, job_id)
        assert job.state != State.FAILED, job.error
        return job.stage_started_done if job.attempt == 2 and job.progress_stage == "generating" else None

    started = wait_until(find_start, "the second attempt")
    resume.touch()
    assert started is not None
    assert started >= positions - 1  # the start token has a position, but is not counted as a step
    job = wait_for(services, job_id, State.SUCCEEDED, worker)
    assert job.attempt == 2
    assert f"job {job_id} continues from the checkpoint of attempt 1" in worker.read_log()
    uninterrupted = wait_for(services, submit(services, **LONG), State.SUCCEEDED, worker)
    assert uninterrupted.attempt == 1
    resumed = read_codes(services, job_id)
    assert [codes.shape for codes in resumed] == [(4, 1_397)] * LONG["num_samples"]
    for ours, theirs in zip(resumed, read_codes(services, uninterrupted.id), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_jobs_in_the_same_batch_generate_the_same_codes_as_alone(
    services: Services, start: Start, resume: Path
) -> None:
    worker = start("musicgen")
    wait_for(services, submit(services), State.SUCCEEDED, worker)  # jobs share a batch only if their model is loaded
    params: list[dict[str, Any]] = [
        {"seed": 1, "max_new_tokens": 450},
        {"seed": 2, "max_new_tokens": 350, "prompts": ["a calm waltz of a solo violin"], "guidance_scale": 1.0},
        {"seed": 3, "max_new_tokens": 400, "prompts": [], "temperature": 1.3},
        {"seed": 4, "max_new_tokens": 300, "top_k": 20, "num_samples": 2},
    ]
    together = [submit(services, **each) for each in params]
    for job_id in together:
        wait_for(services, job_id, State.RUNNING, worker)
    resume.touch()
    ended = [wait_for(services, job_id, State.SUCCEEDED, worker) for job_id in together]
    latest_start = max(job.started_at for job in ended if job.started_at)
    assert all(job.finished_at and job.finished_at > latest_start for job in ended)
    for each, job in zip(params, ended, strict=True):
        alone = wait_for(services, submit(services, **each), State.SUCCEEDED, worker)
        for ours, theirs in zip(read_codes(services, job.id), read_codes(services, alone.id), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def has_loaded(library: str, process: psutil.Process) -> bool:
    return any(f"/{library}/" in mapped.path for mapped in process.memory_maps())


def test_the_model_stays_loaded_after_a_job_is_cancelled(services: Services, start: Start) -> None:
    worker = start("musicgen")
    job_id = submit(services, **LONG)

    def has_steps() -> bool:
        job = read(services, job_id)
        assert job.state in {State.QUEUED, State.RUNNING}
        return job.progress_stage == "generating" and (job.progress_done or 0) > 0

    wait_until(has_steps, "the first steps")
    transitions.cancel(services.database, job_id)
    cancelled = wait_for(services, job_id, State.CANCELLED, worker)
    assert cancelled.attempt == 1
    assert cancelled.error is not None
    assert cancelled.error["type"] == "cancelled"
    # With these damaged weights, a job that loaded the model again would fail.
    weights = builtin_folder(services.settings) / "model.safetensors"
    weights.write_bytes(b"damaged")
    following = wait_for(services, submit(services), State.SUCCEEDED, worker)
    assert (following.attempt, "its process is killed" in worker.read_log()) == (1, False)
