"""Jobs wait in the queue for what they need; meanwhile, their worker runs the jobs that need nothing more."""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from shared.database import queries, transitions
from shared.database.tables import Job
from shared.errors import JobFailedError, JobStoppedError
from shared.jobs import DeviceClass, Kind, State
from shared.kinds.musicgen.parameters import MusicgenParams
from shared.services import Services
from shared.settings import MAX_CLAIM_LOOP_S
from shared.submission import submit
from shared.texts import text
from tests.support.engine_specs import make_engine_spec
from tests.support.waiting import wait_until
from worker.devices import Device
from worker.downloads import MAX_DOWNLOADS
from worker.engines import ENGINES
from worker.engines.interface import JobContext, ReportProgress
from worker.runner import Runner
from worker.watchdog import ChildStatus

BOTH = (Kind.KNN, Kind.MUSICGEN)
READY = "facebook/musicgen-small"
ABSENT = "facebook/musicgen-medium"
OTHER = "facebook/musicgen-large"


@dataclass
class FakeEngine:
    """Runs jobs of one model at the same time; a download runs until the test ends it.

    Attributes
    ----------
    present
        The models that need no download.
    released
        For each model, the event that ends its download.
    fails
        Whether downloads fail when they end.
    downloading, stopped
        The models whose download has begun, or was stopped before its end.
    kept
        What each download had to keep, by the name of its model.
    proceed
        Jobs with the prompt ``wait`` end when this event is set.
    """

    present: set[str] = field(default_factory=lambda: {READY})
    released: defaultdict[str, threading.Event] = field(default_factory=lambda: defaultdict(threading.Event))
    fails: bool = False
    downloading: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    kept: dict[str, set[str]] = field(default_factory=dict)
    proceed: threading.Event = field(default_factory=threading.Event)
    name: str = "fake"
    downloaded_parameter: str = "model"

    def prepare(self) -> None:
        raise NotImplementedError

    def can_batch(self, params: MusicgenParams, running: Sequence[MusicgenParams]) -> bool:
        return len({job.model for job in (params, *running)}) == 1

    def find_missing(self, params: MusicgenParams) -> str | None:
        return None if params.model in self.present else params.model

    def download(self, name: str, keep: Collection[str], report: ReportProgress) -> None:
        self.downloading.append(name)
        self.kept[name] = {*keep}
        done = 0
        try:
            while not self.released[name].wait(0.02):
                done += 1
                report(stage="downloading", done=min(done, 999), total=1_000, unit="bytes")
        except JobStoppedError:
            self.stopped.append(name)
            raise
        if self.fails:
            raise JobFailedError("model-unavailable", text("hub-name-invalid", model=name))
        self.present.add(name)

    def run(self, context: JobContext[MusicgenParams]) -> dict[str, Any]:
        if context.params.prompts == ["wait"]:
            self.proceed.wait()
        return {"samples": []}


class FakeKnnEngine:
    """Runs one job at a time."""

    name = "fake"

    def prepare(self) -> None:
        raise NotImplementedError

    def run(self, context: JobContext[Any]) -> dict[str, Any]:
        assert context.params
        return {}


@dataclass
class RunnerTest:
    """A runner that claims jobs in a thread of its own."""

    services: Services
    engine: FakeEngine
    status: ChildStatus = field(default_factory=ChildStatus)
    threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runner = self.make_runner(MAX_CLAIM_LOOP_S)

    def make_runner(self, max_claim_loop_s: float) -> Runner:
        device = Device(DeviceClass.CPU, 0)
        return Runner(self.services, device, BOTH, "w1", self.status, max_claim_loop_s=max_claim_loop_s)

    def submit(self, model: str, prompt: str = "rock", **body: Any) -> str:
        params = {"model": model, "prompts": [prompt]}
        return self._submit({"kind": "musicgen", "params": params} | body)

    def submit_knn(self) -> str:
        return self._submit({"kind": "knn", "params": {}})

    def _submit(self, body: dict[str, Any]) -> str:
        return submit.submit_job(self.services, {"device": "cpu"} | body)[0].id

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.runner.run_queued_jobs)
        self.threads.append(thread)
        thread.start()
        return thread

    def read(self, job_id: str) -> Job:
        with self.services.database.reading() as session:
            return queries.get_job(session, job_id)

    def wait_for(self, job_id: str, state: State) -> Job:
        def look() -> Job | None:
            job = self.read(job_id)
            return job if job.state == state else None

        return wait_until(look, f"job {job_id} to be {state}")  # type: ignore[return-value]  # a Job, never None

    def wait_for_progress(self, job_id: str) -> Job:
        def look() -> Job | None:
            job = self.read(job_id)
            assert job.state == State.QUEUED
            return job if job.progress_stage == "downloading" and job.progress_done else None

        return wait_until(look, f"progress of job {job_id}")  # type: ignore[return-value]  # a Job, never None

    def wait(self, look: Callable[[], object], what: str) -> None:
        wait_until(lambda: bool(look()), what)


@pytest.fixture
def worker(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunnerTest]:
    engine = FakeEngine()
    monkeypatch.setitem(ENGINES, Kind.MUSICGEN, make_engine_spec(lambda: engine))
    monkeypatch.setitem(ENGINES, Kind.KNN, make_engine_spec(FakeKnnEngine))
    worker = RunnerTest(services, engine)
    yield worker
    worker.status.request_shutdown()
    engine.proceed.set()
    for thread in worker.threads:
        thread.join()
    for name in [*engine.downloading]:
        engine.released[name].set()
    wait_until(lambda: not worker.runner._downloads.missing, "the end of the downloads")


def test_ready_jobs_run_while_two_downloads_hang(worker: RunnerTest) -> None:
    waiting = [worker.submit(ABSENT, priority=9), worker.submit(OTHER, priority=9)]
    ready = [worker.submit(READY), worker.submit_knn(), worker.submit(READY)]
    worker.start()
    for job_id in ready:
        assert worker.wait_for(job_id, State.SUCCEEDED).attempt == 1
    for job_id in waiting:
        job = worker.wait_for_progress(job_id)
        assert (job.attempt, job.progress_total, job.progress_unit) == (0, 1_000, "bytes")
    late = [worker.submit_knn(), worker.submit(READY), worker.submit(ABSENT)]
    for job_id in late[:2]:
        worker.wait_for(job_id, State.SUCCEEDED)
    worker.engine.released[ABSENT].set()
    for job_id in (waiting[0], late[2]):
        assert worker.wait_for(job_id, State.SUCCEEDED).attempt == 1
    assert worker.read(waiting[1]).state == State.QUEUED
    worker.engine.released[OTHER].set()
    worker.wait_for(waiting[1], State.SUCCEEDED)
    assert sorted(worker.engine.downloading) == sorted([ABSENT, OTHER])
    worker.threads[0].join()


def test_a_download_starts_while_jobs_run_and_further_jobs_are_added_to_their_batch(worker: RunnerTest) -> None:
    first = worker.submit(READY, "wait")
    worker.start()
    worker.wait_for(first, State.RUNNING)
    waiting = worker.submit(ABSENT, priority=9)
    worker.wait_for_progress(waiting)
    worker.wait_for(worker.submit(READY), State.SUCCEEDED)
    assert worker.read(first).state == State.RUNNING
    worker.engine.released[ABSENT].set()
    worker.engine.proceed.set()
    worker.wait_for(waiting, State.SUCCEEDED)


def test_a_failed_download_fails_the_jobs_that_wait_for_it(worker: RunnerTest) -> None:
    waiting = [worker.submit(ABSENT) for _ in range(3)]
    other = worker.submit(OTHER)
    elsewhere = worker.submit(ABSENT, device="gpu")
    worker.start()
    for job_id in (waiting[0], other):
        worker.wait_for_progress(job_id)
    worker.engine.fails = True
    worker.engine.released[ABSENT].set()
    for job_id in waiting:
        job = worker.wait_for(job_id, State.FAILED)
        assert job.error is not None
        assert (job.error["type"], job.attempt) == ("model-unavailable", 0)
    assert {worker.read(job_id).state for job_id in (other, elsewhere)} == {State.QUEUED}
    worker.engine.fails = False
    retried = worker.submit(ABSENT)
    worker.wait_for(retried, State.SUCCEEDED)


def test_a_download_stops_when_the_last_job_that_waits_for_it_is_cancelled(worker: RunnerTest) -> None:
    waiting = [worker.submit(ABSENT) for _ in range(2)]
    thread = worker.start()
    worker.wait_for_progress(waiting[0])
    for job_id in waiting:
        assert worker.engine.stopped == []
        assert transitions.cancel(worker.services.database, job_id).state == State.CANCELLED
    worker.wait(lambda: worker.engine.stopped == [ABSENT], "the end of the download")
    thread.join()
    again = worker.submit(ABSENT)
    worker.start()
    worker.wait_for_progress(again)
    assert worker.engine.downloading == [ABSENT, ABSENT]


def test_the_number_of_downloads_at_the_same_time_is_limited(worker: RunnerTest) -> None:
    names = [f"facebook/musicgen-stereo-{size}" for size in ("small", "medium", "large")] + [ABSENT]
    assert len(names) == MAX_DOWNLOADS + 1
    jobs = {name: worker.submit(name) for name in names}
    ready = worker.submit(READY)
    worker.start()
    worker.wait_for(ready, State.SUCCEEDED)
    for name in names[:MAX_DOWNLOADS]:
        worker.wait_for_progress(jobs[name])
    assert sorted(worker.engine.downloading) == sorted(names[:MAX_DOWNLOADS])
    worker.engine.released[names[1]].set()
    worker.wait_for(jobs[names[1]], State.SUCCEEDED)
    worker.wait_for_progress(jobs[ABSENT])


def test_the_models_of_jobs_that_have_not_ended_are_kept(worker: RunnerTest) -> None:
    running, waiting = worker.submit(READY, "wait"), worker.submit(ABSENT)
    ended = worker.submit(OTHER)
    transitions.cancel(worker.services.database, ended)
    worker.start()
    worker.wait_for_progress(waiting)
    assert worker.read(running).state == State.RUNNING
    assert worker.engine.kept[ABSENT] == {READY, ABSENT}


def test_a_worker_that_shuts_down_does_not_wait_for_downloads(worker: RunnerTest) -> None:
    waiting = worker.submit(ABSENT)
    wakeups = worker.services.broker.count_pending_wakeups(Kind.MUSICGEN, DeviceClass.CPU)
    thread = worker.start()
    worker.wait_for_progress(waiting)
    worker.status.request_shutdown()
    thread.join()
    job = worker.read(waiting)
    assert (job.state, job.attempt) == (State.QUEUED, 0)
    assert worker.services.broker.count_pending_wakeups(Kind.MUSICGEN, DeviceClass.CPU) == wakeups + 1


def test_downloads_continue_when_the_worker_handles_the_next_message(worker: RunnerTest) -> None:
    worker.runner = worker.make_runner(max_claim_loop_s=0)
    waiting = worker.submit(ABSENT)
    worker.start().join()
    worker.wait_for_progress(waiting)
    ready = worker.submit(READY)
    worker.start().join()
    assert worker.read(ready).state == State.SUCCEEDED
    worker.engine.released[ABSENT].set()
    worker.wait(lambda: ABSENT in worker.engine.present, "the end of the download")
    worker.start().join()
    assert worker.read(waiting).state == State.SUCCEEDED
    assert worker.engine.downloading == [ABSENT]


def test_a_download_that_ends_while_the_queue_is_read_is_noticed(
    worker: RunnerTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = worker.submit(ABSENT)
    find_next_job = queries.find_next_job

    def end_download(*args: Any) -> Job | None:
        job = find_next_job(*args)
        if args[-1] and job is None:  # the job was passed over
            worker.engine.released[ABSENT].set()
            worker.wait(lambda: not worker.runner._downloads.missing, "the end of the download")
        return job

    monkeypatch.setattr(queries, "find_next_job", end_download)
    worker.start().join()
    assert worker.read(waiting).state == State.SUCCEEDED
