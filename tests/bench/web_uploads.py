"""How fast the web answers while large tables are uploaded and inspected, and while many jobs name a large table."""

import json
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import numpy as np

from shared.inspection.inspectors import INSPECTORS, check_answer, start_process
from shared.inspection.upload_kinds import InspectionState, UploadKind
from shared.settings import Settings
from tests.bench.measured_process import run_in_process
from tests.bench.section import Ratio, Section, format_table
from tests.bench.web_load import Connection, find_percentiles_ms
from tests.support.processes import ServiceProcess
from tests.support.raw_http import connect

ROWS: Final = 200_000
COLUMNS: Final = 20
UPLOADS: Final = 8
SUBMISSIONS_PER_S: Final = 10
REQUESTS: Final = 320
NAMED_BYTES: Final = 23 * 2**20
MAX_SUBMISSION_MS: Final = 300.0
MAX_HEALTH_MS: Final = 100.0
START_S: Final = 3.0
"""The time in which a process that waits for an upload has imported what it needs."""
MAX_INSPECTION_S: Final = 5.0
MAX_INSPECTION_BYTES: Final = 10**9
TIMEOUT_S: Final = 300.0
_WINE: Final = {"kind": "knn", "params": {"k": 5}}


def measure(name: str, settings: Settings, port: int, folder: Path) -> Section:
    """Measure the inspection of a large table, and submissions and ``/healthz`` beside such tables."""
    table = make_table(folder)
    duration_s, peak_bytes = run_in_process(inspect_alone, table, settings)
    with run_sweeper(settings, folder / "sweeper.log"):
        submissions_s = run_in_process(submit_beside_uploads, port, table)
        health_s, accepted = run_in_process(look_beside_submissions, port, table)
    figures = {
        f"a Wine job submitted beside {UPLOADS} uploads of this table and jobs that name them": submissions_s,
        f"/healthz beside {REQUESTS} jobs that name one table of {NAMED_BYTES / 2**20:g} MiB at once": health_s,
    }
    percentiles = {what: find_percentiles_ms(times_s) for what, times_s in figures.items()}
    (_, submission_ms, _), (_, health_ms, _) = percentiles.values()
    text = (
        f"{name}: a table of {ROWS} rows and {COLUMNS} columns ({table.stat().st_size / 2**20:.0f} MiB of CSV) is "
        f"inspected within {duration_s:.1f} s and {peak_bytes / 2**20:.0f} MiB. {accepted} of the {REQUESTS} jobs at "
        "once were accepted at once; the others were asked to come back (503)."
    )
    rows = [[what, *(f"{value:.1f}" for value in values)] for what, values in percentiles.items()]
    return Section(
        [
            Ratio("s of an inspection of a large table", duration_s, MAX_INSPECTION_S, is_upper_bound=True),
            Ratio("bytes of an inspection of it / 1 GB", peak_bytes / MAX_INSPECTION_BYTES, 1.0, is_upper_bound=True),
            Ratio(
                f"ms of a Wine submission beside {UPLOADS} large uploads, p99: {name}",
                submission_ms,
                MAX_SUBMISSION_MS,
                is_upper_bound=True,
            ),
            Ratio(
                f"ms of /healthz beside {REQUESTS} jobs that name a large table, p99: {name}",
                health_ms,
                MAX_HEALTH_MS,
                is_upper_bound=True,
            ),
        ],
        f"{text}\n\n{format_table(['', 'p50 ms', 'p99 ms', 'max ms'], rows)}",
    )


def make_table(folder: Path) -> Path:
    """Write a table of numbers with a label."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, ROWS)
    numbers = random.normal(size=(ROWS, COLUMNS - 1)) + labels[:, None]
    path = folder / "large.csv"
    with path.open("w") as file:
        file.write(",".join(["label", *(f"x{index}" for index in range(COLUMNS - 1))]) + "\n")
        for label, row in zip(labels.tolist(), numbers.tolist(), strict=True):
            file.write(f"{'abc'[label]},{','.join(f'{value:.6f}' for value in row)}\n")
    return path


@contextmanager
def run_sweeper(settings: Settings, log: Path) -> Iterator[None]:
    """Run a sweeper, which inspects uploads, while the block runs."""
    sweeper = ServiceProcess("shared.maintenance", settings=settings, log=log)
    try:
        yield
    finally:
        sweeper.close()


def inspect_alone(path: Path, settings: Settings) -> tuple[float, int]:
    """Inspect a table by a process that has waited for it; return the duration in seconds, and the peak memory."""
    inspector = INSPECTORS[UploadKind.TABLE]
    process = start_process(inspector, settings)
    time.sleep(START_S)
    start_s = time.perf_counter()
    with path.open("rb") as file:
        answer = check_answer(inspector, process.inspect(file, inspector.list_options(settings, {}), lambda: True))
    duration_s = time.perf_counter() - start_s
    if answer.facts is None:
        raise RuntimeError(f"the table was not inspected: {answer.problem}")
    return duration_s, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def submit_beside_uploads(port: int, table: Path) -> list[float]:
    """Submit Wine jobs at a fixed rate until large tables are uploaded, inspected and named by a job each.

    Each submission counts from when it was due.
    """
    times_s: list[float] = []
    with ThreadPoolExecutor(UPLOADS) as pool:
        start_s = time.perf_counter()
        tables = [pool.submit(_upload_and_submit, port, table) for _ in range(UPLOADS)]
        while not all(one.done() for one in tables):
            due_s = start_s + len(times_s) / SUBMISSIONS_PER_S
            time.sleep(max(0.0, due_s - time.perf_counter()))
            _send(port, "/api/v1/jobs", json.dumps(_WINE).encode())
            times_s.append(time.perf_counter() - due_s)
        for one in tables:
            one.result()
    return times_s


def look_beside_submissions(port: int, table: Path) -> tuple[list[float], int]:
    """Ask for ``/healthz`` again and again until many requests at once, which name one table, are answered.

    Returns
    -------
    times_s, accepted
        The duration of each request for ``/healthz``, and the number of jobs that were accepted.
    """
    with tempfile.TemporaryDirectory(prefix="mj-bench-") as folder:
        smaller = Path(folder) / "named.csv"
        with table.open("rb") as file:
            smaller.write_bytes(file.read(NAMED_BYTES).rpartition(b"\n")[0])
        upload_id = _upload(port, smaller)
    body = json.dumps(_name_table(upload_id)).encode()
    head = f"POST /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    times_s: list[float] = []
    with ExitStack() as stack:
        health = Connection(port)
        stack.enter_context(health.socket)
        clients = [stack.enter_context(connect(port, request)) for _ in range(REQUESTS)]
        pool = stack.enter_context(ThreadPoolExecutor(REQUESTS))
        answers = [pool.submit(client.recv, 2**16) for client in clients]
        while not all(answer.done() for answer in answers):
            start_s = time.perf_counter()
            health.get("/healthz")
            times_s.append(time.perf_counter() - start_s)
    # SQLite has one writer at a time, so some may be asked to come back after the time that a request may take.
    statuses = Counter(answer.result().split(b" ", 2)[1] for answer in answers)
    if statuses.keys() - {b"202", b"503"}:
        raise RuntimeError(f"submissions were refused: {statuses}")
    return times_s, statuses[b"202"]


def _upload_and_submit(port: int, table: Path) -> None:
    upload_id = _upload(port, table)
    _send(port, "/api/v1/jobs", json.dumps(_name_table(upload_id)).encode())


def _upload(port: int, table: Path) -> str:
    """Upload a table, and wait until it is inspected; return the id of the upload."""
    upload_id = str(_send(port, "/api/v1/uploads", table.read_bytes())["id"])
    while True:
        inspection = _send(port, f"/api/v1/uploads/{upload_id}", None)["inspection"]
        if inspection["state"] == InspectionState.READY:
            return upload_id
        if inspection["state"] != InspectionState.PENDING:
            raise RuntimeError(f"the table was not inspected: {inspection}")


def _name_table(upload_id: str) -> dict[str, Any]:
    return {"kind": "knn", "params": {"dataset": {"upload": upload_id}, "k": 5}}


def _send(port: int, path: str, body: bytes | None) -> dict[str, Any]:
    """Send a request, and return the JSON of the response; GET without a body, which waits for an inspection."""
    headers = {"Content-Type": "application/json" if path.endswith("/jobs") else "text/csv", "Prefer": "wait=60"}
    with closing(HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)) as connection:
        if body is None:
            connection.request("GET", path, headers={"Prefer": headers["Prefer"]})
        else:
            connection.request("POST", path, body, {"Content-Type": headers["Content-Type"]})
        response = connection.getresponse()
        content = response.read()
    if response.status not in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED}:
        raise RuntimeError(f"{path} was refused with {response.status}: {content!r}")
    found: dict[str, Any] = json.loads(content)
    return found
