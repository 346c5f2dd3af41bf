"""How fast the web answers polls while a thousand clients send or read so slowly that they never get on."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from shared.database import transitions
from shared.files.keys import artifact_key
from shared.jobs import Lease, Outcome, State, StoredFile
from shared.services import Services
from tests.bench.measured_process import run_in_process
from tests.bench.section import Ratio, Section, format_table
from tests.bench.web_load import CONNECTIONS, Connection, find_percentiles_ms
from tests.support.open_files import allow_open_files
from tests.support.raw_http import connect

CLIENTS: Final = 1_000
MAX_POLL_MS: Final = 100.0
POLLS_PER_S: Final = 50
POLLING_S: Final = 10.0
FILE_BYTES: Final = 2**24
"""More than the buffers of a connection hold."""
RECEIVE_BUFFER_BYTES: Final = 2**12
_HOST: Final = "Host: 127.0.0.1\r\n"
_END: Final = b"\r\n\r\n"


def measure(name: str, services: Services, start_job: Callable[[], Lease], port: int) -> Section:
    """Measure polls of an ended job beside each kind of slow client, and without slow clients."""
    lease = start_job()
    stored = services.files.put(artifact_key(lease.job_id, lease.attempt, "large.wav"), [bytes(FILE_BYTES)])
    file = StoredFile("large.wav", stored.key, "audio/wav", stored.bytes, stored.sha256)
    transitions.finish(services.database, lease, Outcome(State.SUCCEEDED, {"best_k": 5}, files=(file,)))
    job = f"/api/v1/jobs/{lease.job_id}"
    stream = f"/api/v1/jobs/{start_job().job_id}/events"
    requests = {
        "nothing": "",
        "half a head": "GET / HTTP/1.1\r\nHo",
        "half a small body": f'POST /api/v1/jobs HTTP/1.1\r\n{_HOST}Content-Length: 1000\r\n\r\n{{"kind"',
        "half a large body": f"POST /api/v1/uploads HTTP/1.1\r\n{_HOST}Content-Length: 1000000\r\n\r\na,b",
        "a file that is not read": f"GET {job}/artifacts/large.wav HTTP/1.1\r\n{_HOST}\r\n",
        "a range that is not read": f"GET {job}/artifacts/large.wav HTTP/1.1\r\n{_HOST}Range: bytes=1-\r\n\r\n",
        "a stream that is not read": f"GET {stream} HTTP/1.1\r\n{_HOST}\r\n",
    }
    figures = {
        client: find_percentiles_ms(run_in_process(_poll_beside, port, request.encode(), job))
        for client, request in requests.items()
    }
    rows = [[client, *(f"{value:.1f}" for value in values)] for client, values in figures.items()]
    text = (
        f"{name}: {POLLS_PER_S} status polls a second for {POLLING_S:g} s, beside {CLIENTS} clients that have sent one "
        "of these and do nothing more:"
    )
    ratios = [
        Ratio(
            f"ms of a status poll beside {CLIENTS} clients with {client}, p99: {name}",
            p99_ms,
            MAX_POLL_MS,
            is_upper_bound=True,
        )
        for client, (_, p99_ms, _) in figures.items()
    ]
    return Section(ratios, f"{text}\n\n{format_table(['', 'p50 ms', 'p99 ms', 'max ms'], rows)}")


def _poll_beside(port: int, request: bytes, path: str) -> list[float]:
    """Open the connections of the slow clients, and time polls at a fixed rate; each counts from when it was due.

    The polls begin when the server has handled what the slow clients have sent. Before, they would wait for the
    computation of a thousand requests, as they would beside any thousand clients.
    """
    allow_open_files()
    numbers = iter(range(int(POLLS_PER_S * POLLING_S)))
    started_s: list[float] = []
    barrier = threading.Barrier(CONNECTIONS, action=lambda: started_s.append(time.perf_counter()))

    def poll(_: int) -> list[float]:
        connection = Connection(port)
        times_s: list[float] = []
        with connection.socket:
            connection.get(path)  # not timed: it is answered after what the slow clients have sent was handled
            barrier.wait()
            for number in numbers:
                due_s = started_s[0] + number / POLLS_PER_S
                time.sleep(max(0.0, due_s - time.perf_counter()))
                connection.get(path)
                times_s.append(time.perf_counter() - due_s)
        return times_s

    with ExitStack() as stack:
        clients = [
            stack.enter_context(connect(port, request, receive_buffer=RECEIVE_BUFFER_BYTES))
            for _ in range(CLIENTS if request else 0)
        ]
        if request.endswith(_END):  # a whole request: it has been computed when the response begins
            for client in clients:
                client.recv(1)
        pool = stack.enter_context(ThreadPoolExecutor(CONNECTIONS))
        return [each for some in pool.map(poll, range(CONNECTIONS)) for each in some]
