"""The registration and the heartbeat of a worker, which show which device classes ``auto`` can choose."""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Final

from sqlalchemy import delete, insert, update
from sqlalchemy.exc import SQLAlchemyError

from shared.background import Background
from shared.database import transitions, worker_queries
from shared.database.connection import Database, now
from shared.database.tables import Worker
from shared.jobs import STATE_PHRASES, Kind
from worker.devices import Device
from worker.engines.backend import Backend
from worker.watchdog import ChildStatus

READY_CHECK_INTERVAL_S: Final = 0.2
STALLED_CHECKS: Final = 2
"""How many heartbeats in a row must find the worker stalled before it stops."""

logger = logging.getLogger(__name__)


def name_worker(device: Device, kinds: Iterable[Kind]) -> str:
    """Make the name of this worker, unique among all workers that ever ran."""
    # In a container, the host name and the process id are the same after every restart. The token makes names unique.
    return f"{device}/{'+'.join(kinds)}@{socket.gethostname()}-{secrets.token_hex(3)}:{os.getpid()}"


class WorkerRegistration(Background):
    """Keeps a worker registered while the block runs; when the block ends, queues the worker's running jobs again.

    Parameters
    ----------
    name
        The name of the worker, unique among all workers that ever ran.
    backends
        For each kind of job that the worker runs, the backend that computes it.
    heartbeat_interval_s
        How often the worker confirms that it is alive.
    stalled_worker_s
        How long this worker may be idle while a job that it could run waits. After this time, the worker stops.
    status
        What the worker's child reports.
    """

    def __init__(  # noqa: PLR0913 - the values of the worker's row
        self,
        database: Database,
        *,
        name: str,
        device: Device,
        backends: Mapping[Kind, Backend],
        heartbeat_interval_s: float,
        stalled_worker_s: float,
        status: ChildStatus,
    ) -> None:
        super().__init__("registration")
        self._database = database
        self._status = status
        self._stalled_worker_s = stalled_worker_s
        self._stalled_checks = 0
        self._name = name
        precisions = {kind: list(backend.list_precisions(device)) for kind, backend in backends.items()}
        self._row = {
            "name": name,
            "device": device.device_class,
            "device_index": device.index,
            "kinds": list(backends),
            "engines": {kind: backend.name for kind, backend in backends.items()},
            "precisions": {kind: offered for kind, offered in precisions.items() if offered},
            "beat_interval_s": heartbeat_interval_s,
        }
        self._interval_s = heartbeat_interval_s
        # The process must not fork while a connection is open: a child that inherits a connection to SQLite would act
        # as if it held the locks that its parent holds.
        self._connected = threading.Lock()
        os.register_at_fork(
            before=self._connected.acquire,
            after_in_parent=self._connected.release,
            after_in_child=self._connected.release,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the registration, and queue the worker's running jobs again."""
        super().__exit__(kind, error, trace)
        for job in transitions.requeue_jobs_of(self._database, self._name):
            logger.info("job %s was running when the worker stopped; it %s", job.id, STATE_PHRASES[job.state])
        with self._database.writing() as session:
            session.execute(delete(Worker).where(Worker.name == self._name))

    def _run(self) -> None:
        while not self._stop_requested.is_set() and not self._status.wait_until_ready(READY_CHECK_INTERVAL_S):
            pass
        while not self._stop_requested.is_set():
            try:
                with self._connected:
                    self._send_heartbeat()
                    stalled = self._is_stalled()
                    self._database.close()
                self._stop_if_stalled(stalled=stalled)
            except SQLAlchemyError as error:
                logger.warning("the database does not answer, the next heartbeat tries again: %s", error)
            self._stop_requested.wait(self._interval_s)

    def _send_heartbeat(self) -> None:
        """Record that the worker is alive; insert the worker's row if it does not exist yet, or was deleted."""
        with self._database.writing() as session:
            times = {"beat_at": now(), "active_at": now(-self._status.inactive_s)}
            beat = update(Worker).where(Worker.name == self._name).values(times).returning(Worker.name)
            if session.execute(beat, execution_options={"synchronize_session": False}).one_or_none() is None:
                session.execute(insert(Worker).values(**self._row, started_at=now(), **times))

    def _is_stalled(self) -> bool:
        with self._database.reading() as session:
            return any(
                worker.name == self._name
                for worker in worker_queries.list_stalled_workers(session, self._stalled_worker_s)
            )

    def _stop_if_stalled(self, *, stalled: bool) -> None:
        """Stop the worker if it takes no work, since a new worker will.

        One check is not enough: if the whole machine was suspended, the first check finds every worker inactive.
        """
        self._stalled_checks = self._stalled_checks + 1 if stalled else 0
        if self._stalled_checks == STALLED_CHECKS:
            logger.error("this worker is idle although jobs wait that it could run; it stops, to be started again")
            os.kill(os.getpid(), signal.SIGTERM)
        elif self._stalled_checks > 2 * STALLED_CHECKS:
            logger.error("this worker did not stop, and is ended by force")
            os._exit(1)
