"""The client and its command line, tested with the real service: gunicorn, a database, a worker."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared import api_keys
from shared.client import Artifact, Client, ClientError, Progress, StateChange, api
from shared.client.__main__ import main
from shared.database import queries, transitions
from shared.database.migrate import ROOT
from shared.jobs import CANCELLED, Lease, Outcome, State
from shared.jobs import Progress as Reported
from shared.retry_delay import RetryDelay
from shared.services import Services
from shared.settings import Settings
from tests.integration.conftest import ServeWeb, StartProcess
from tests.support.job_outcomes import end, start_job
from tests.support.ports import reserve_port
from tests.support.processes import ServiceProcess
from tests.support.waiting import DEADLINE_S, wait_until

Say = Callable[..., tuple[int, str, str]]
REPORT = b'{"accuracy": 1.0}'


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"port": reserve_port(), "web_processes": 1, "max_upload_bytes": 2**20})


@pytest.fixture
def server(
    settings: Settings, serve_web: ServeWeb, start_process: StartProcess, monkeypatch: pytest.MonkeyPatch
) -> ServiceProcess:
    monkeypatch.setenv("MINDJOBS_SERVER", f"http://{settings.authority}")
    monkeypatch.delenv("MINDJOBS_KEY", raising=False)
    start_process("shared.maintenance")  # inspects uploads
    return serve_web(port=settings.port)[0]


@pytest.fixture
def client(server: ServiceProcess) -> Iterator[Client]:
    """A client that repeats failed requests for over eight minutes: long enough for a slow restart of the service."""
    assert server.process.poll() is None
    with Client(retry_delay=RetryDelay(0.25, DEADLINE_S)) as client:
        yield client


@pytest.fixture
def say(server: ServiceProcess, capsys: pytest.CaptureFixture[str]) -> Say:
    """Return a function that runs a command and returns the exit status, the standard output and the standard error."""
    assert server.process.poll() is None

    def say(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(words)
        return (status, *capsys.readouterr())

    return say


def finish(services: Services, lease: Lease) -> None:
    end(services, lease, Outcome(State.SUCCEEDED, {"best_k": 5}), {"report.json": ("application/json", REPORT)})


def test_client_receives_all_events_of_a_job_and_downloads_an_artifact(
    client: Client, services: Services, tmp_path: Path
) -> None:
    job = client.submit("knn", {"k": 3}, device="cpu", labels={"team": "a"}, priority=7)
    assert (job.params["k"], job.labels, job.priority, job.state) == (3, {"team": "a"}, 7, State.QUEUED)
    events = client.follow(job.id)
    received = [next(events).data]
    lease = start_job(services)
    received.append(next(events).data)
    transitions.heartbeat(services.database, lease, Reported("search", 1, 9, "tiles"), 60.0)
    received.append(next(events).data)
    finish(services, lease)
    received += [event.data for event in events]
    states = [data.state for data in received if isinstance(data, StateChange)]
    assert states == [State.QUEUED, State.RUNNING, State.SUCCEEDED]
    assert isinstance(received[2], Progress)
    assert (received[2].stage, received[2].done, received[2].total, received[2].unit) == ("search", 1, 9, "tiles")
    assert isinstance(received[3], Artifact)
    assert received[3].sha256 == hashlib.sha256(REPORT).hexdigest()
    assert len(received) == 5
    assert client.wait(job.id).result == {"best_k": 5, "preparation": None, "warnings": []}
    (path,) = client.download(job.id, tmp_path / "out", "report.json")
    assert path.read_bytes() == REPORT


def test_following_continues_after_a_restart_of_the_service(
    client: Client, services: Services, settings: Settings, server: ServiceProcess, serve_web: ServeWeb
) -> None:
    job = client.submit("knn", device="cpu")
    events = client.follow(job.id)
    assert isinstance(next(events).data, StateChange)
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, events)
        server.kill_group()
        finish(services, start_job(services))
        serve_web(port=settings.port)
        states = [event.data.state for event in rest.result(DEADLINE_S) if isinstance(event.data, StateChange)]
    assert states[-1] is State.SUCCEEDED
    assert State.QUEUED not in states


def test_unreachable_service_gives_exit_status_3(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--server", f"http://{settings.authority}"]) == 3
    assert "Connection refused" in capsys.readouterr().err


REFUSED: list[tuple[str, list[str]]] = [
    ("submit knn -p k=0 -p metric=near", ["/params/k: ", "/params/metric: "]),
    ("submit knn --priority 12", ["/priority: "]),
    ("submit knn --csv not/there.csv", ["not/there.csv: No such file or directory"]),
    ("submit knn --label team", ["'team' is not of the form NAME=VALUE"]),
    ("submit knn --key-file /dev/null", ["The key is empty"]),
    ("show nonsense", ["There is nothing at this address."]),
    ("show ../../healthz", ["There is nothing at this address."]),
    ("wait 01a2070d-0000-7000-8000-000000000000", ["There is no job 01a2070d"]),
    ("list --server localhost:8000", ["is not the address of a server"]),
]


def test_invalid_command_is_refused_with_a_message_for_each_field(say: Say) -> None:
    for words, expected in REFUSED:
        status, answer, besides = say(*words.split())
        assert (status, answer) == (2, ""), words
        assert [part for part in expected if part not in besides] == [], words


def test_upload_over_the_size_limit_is_refused_with_the_reason(say: Say, tmp_path: Path) -> None:
    file = tmp_path / "large.csv"
    file.write_bytes(b"1,2\n" * 2**20)
    status, _, besides = say("upload", str(file))
    assert status == 2
    assert "larger than" in besides


def test_submitted_table_is_uploaded_and_used_by_the_job(say: Say, services: Services, tmp_path: Path) -> None:
    file = tmp_path / "flöwers.csv"
    file.write_text("size,note,species\n" + "1,x,a\n2,y,b\n" * 10)
    words = [
        "--csv",
        str(file),
        "--label-column",
        "species",
        "--exclude",
        "note",
        "-p",
        "k=1",
        "-p",
        "evaluation.method=loo",
    ]
    status, answer, _ = say("submit", "knn", *words)
    assert status == 0
    with services.database.reading() as session:
        params = queries.get_job(session, answer.strip()).params
        (upload,) = queries.find_uploads(session, [params["dataset"]["upload"]], "").values()
    assert (params["dataset"]["label"], params["dataset"]["exclude"]) == ("species", ["note"])
    assert (upload.filename, upload.bytes, upload.media_type) == (file.name, file.stat().st_size, "text/csv")


def test_repeated_idempotency_key_returns_the_same_job(say: Say) -> None:
    words = ("submit", "knn", "--idempotency-key", "once \N{BEAMED EIGHTH NOTES}")
    first = say(*words)
    assert say(*words) == first
    assert first[0] == 0
    assert "This Idempotency-Key was used" in say(*words, "-p", "k=7")[2]
    status, _, besides = say("submit", "knn", "--idempotency-key", "on\nce")
    assert status == 2
    assert "header value" in besides


def test_jobs_are_listed_as_a_table(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_PAGE_LENGTH", 2)
    ids = [say("submit", "knn", "--label", f"team={team}", "--device", "cpu")[1].strip() for team in "abcba"]
    status, answer, _ = say("list", "--state", "queued", "--kind", "knn", "--device", "cpu")
    head, *rows = answer.splitlines()
    assert (status, head.split()) == (0, ["ID", "KIND", "STATE", "DEVICE", "PROGRESS", "CREATED", "LABELS"])
    assert [row.split()[0] for row in rows] == ids[::-1]
    assert [row.split()[-1] for row in rows] == ["team=a", "team=b", "team=c", "team=b", "team=a"]
    chosen = say("list", "--label", "team=a", "--limit", "1")[1].splitlines()[1:]
    assert [row.split()[0] for row in chosen] == [ids[4]]
    assert say("list", "--state", "running")[1].splitlines() == [" ".join(head.split()).replace(" ", "  ")]


def test_jobs_in_either_of_two_states_are_listed(say: Say, services: Services) -> None:
    ids = [say("submit", "knn", "--device", "cpu")[1].strip() for _ in range(3)]
    say("cancel", ids[0])
    start_job(services, ids[1])
    rows = say("list", "--state", "queued", "--state", "cancelled")[1].splitlines()[1:]
    assert [row.split()[0] for row in rows] == [ids[2], ids[0]]


def test_retry_with_the_same_idempotency_key_returns_the_same_job(say: Say) -> None:
    job_id = say("submit", "knn", "--device", "cpu")[1].strip()
    say("cancel", job_id)
    first = say("retry", job_id, "--idempotency-key", "once")
    assert first[0] == 0
    assert say("retry", job_id, "--idempotency-key", "once") == first


def test_retry_has_the_same_seed_or_a_new_one(say: Say) -> None:
    job_id = say("submit", "musicgen", "--device", "cpu", "-p", "model=mindjobs/tiny")[1].strip()
    say("cancel", job_id)

    def read_seed(job: str) -> int:
        return int(json.loads(say("show", job)[1])["params"]["seed"])

    assert read_seed(say("retry", job_id)[1].strip()) == read_seed(job_id)
    assert read_seed(say("retry", job_id, "--new-seed")[1].strip()) != read_seed(job_id)


def test_uploads_are_listed_and_deleted(
    say: Say, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_PAGE_LENGTH", 2)
    file = tmp_path / "table.csv"
    file.write_text("k,a\n" + "x,1\ny,5\n" * 4)
    ids = [say("upload", str(file))[1].strip() for _ in range(3)]
    status, answer, _ = say("uploads")
    head, *rows = answer.splitlines()
    assert (status, head.split()) == (0, ["ID", "BYTES", "TYPE", "CREATED", "NAME"])
    assert [(row.split()[0], row.split()[-1]) for row in rows] == [(upload_id, "table.csv") for upload_id in ids[::-1]]
    assert len(say("uploads", "--limit", "1")[1].splitlines()) == 2
    assert client.get_upload(ids[0]).filename == "table.csv"
    assert say("delete-upload", ids[0]) == (0, "", f"upload {ids[0]} is deleted\n")
    status, _, besides = say("delete-upload", ids[0])
    assert (status, f"There is no upload {ids[0]}." in besides) == (2, True)
    say("submit", "knn", "-p", f"dataset.upload={ids[1]}", "-p", "k=1", "-p", "evaluation.method=loo")
    assert "is needed by jobs that have not ended" in say("delete-upload", ids[1])[2]


def test_control_characters_of_a_label_are_replaced_in_the_output(say: Say) -> None:
    say("submit", "knn", "--label", "team=\x1b[2Jred")
    answer = say("list")[1]
    assert "\x1b" not in answer
    assert "\N{REPLACEMENT CHARACTER}[2Jred" in answer


def test_job_is_cancelled_retried_and_deleted(say: Say, services: Services) -> None:
    job_id = say("submit", "knn", "--device", "cpu")[1].strip()
    assert say("delete", job_id)[0] == 2
    assert say("cancel", job_id) == (0, "", f"job {job_id} was cancelled\n")
    status, answer, besides = say("wait", job_id)
    assert (status, answer) == (1, "")
    assert f"job {job_id} was cancelled\n" in besides
    assert say("cancel", job_id)[0] == 2
    again = say("retry", job_id)[1].strip()
    assert json.loads(say("show", again)[1])["retry_of"] == job_id
    lease = start_job(services)
    assert say("cancel", again) == (0, "", f"job {again} stops within seconds\n")
    transitions.finish(services.database, lease, CANCELLED)
    assert say("delete", job_id) == (0, "", f"job {job_id} is deleted\n")
    assert say("show", job_id)[0] == 2


def test_all_artifacts_are_downloaded_and_an_unknown_name_is_refused(
    say: Say, services: Services, tmp_path: Path
) -> None:
    job_id = say("submit", "knn", "--device", "cpu")[1].strip()
    finish(services, start_job(services))
    status, _, besides = say("download", job_id, "--to", str(tmp_path / "all"))
    assert (status, besides) == (0, f"{tmp_path}/all/report.json\n")
    assert (tmp_path / "all" / "report.json").read_bytes() == REPORT
    status, _, besides = say("download", job_id, "other.txt", "--to", str(tmp_path / "one"))
    assert status == 2
    assert "'other.txt' is not one of its files: report.json" in besides
    assert not (tmp_path / "one").exists()


def test_client_needs_the_key_that_owns_the_job(
    say: Say, services: Services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine, other = (api_keys.create_key(services.database, name) for name in ("mine", "other"))
    wait_until(lambda: say("list")[0] == 2, "the web to know of the keys")
    assert "An API key is required" in say("submit", "knn")[2]
    monkeypatch.setenv("MINDJOBS_KEY", mine)
    job_id = say("submit", "knn", "--device", "cpu")[1].strip()
    finish(services, start_job(services))
    assert say("wait", job_id)[0] == 0
    file = tmp_path / "key"
    file.write_text(f"{other}\n")
    for words in (["wait", job_id], ["download", job_id, "--to", str(tmp_path)]):
        assert say(*words)[0] == 0
        status, _, besides = say(*words, "--key-file", str(file))
        assert status == 2
        assert f"There is no job {job_id}." in besides
    with Client(key="mj_wrong") as client, pytest.raises(ClientError) as caught:
        client.get(job_id)
    assert (caught.value.status, caught.value.type) == (401, "key-required")


@pytest.fixture
def heeding_interrupts() -> Iterator[None]:
    """Stop ignoring SIGINT: a shell starts background processes with SIGINT ignored, and child processes inherit it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_interrupts")
def test_interrupted_wait_reports_that_the_job_continues(say: Say, tmp_path: Path) -> None:
    job_id = say("submit", "knn", "--device", "cpu")[1].strip()
    log = tmp_path / "messages"
    with log.open("w") as messages:
        command = [sys.executable, "-m", "shared.client", "wait", job_id]
        with subprocess.Popen(command, cwd=ROOT, env=os.environ, stderr=messages, stdout=subprocess.PIPE) as waiting:
            wait_until(lambda: "queued" in log.read_text(), "the client to wait")
            waiting.send_signal(signal.SIGINT)
            assert waiting.wait(DEADLINE_S) == 130
    assert f"job {job_id} continues; to cancel it: python -m shared.client cancel {job_id}\n" in log.read_text()
    assert json.loads(say("show", job_id)[1])["state"] == "queued"


def test_wine_data_set_is_evaluated_from_the_command_line(
    server: ServiceProcess, services: Services, start_process: StartProcess, tmp_path: Path
) -> None:
    assert server.process.poll() is None
    worker = start_process("worker", "--device", "cpu:0", "--kinds", "knn")
    words = ["submit", "knn", "-p", "normalise=zscore", "-p", 'evaluation={"method": "loo"}', "--device", "cpu"]
    words += ["--wait", "--download", str(tmp_path / "out")]
    command = [sys.executable, "-m", "shared.client", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr + worker.read_log()
    result = json.loads(done.stdout)
    assert result["best_k"] == 5
    assert result["scores"][0]["accuracy"] > 0.95
    assert "succeeded" in done.stderr
    with services.database.reading() as session:
        (job,) = queries.list_jobs(session, queries.JobFilter(None), 2)
        names = {artifact.name for artifact in queries.list_artifacts(session, [job.id])[job.id]}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
