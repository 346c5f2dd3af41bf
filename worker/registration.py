"""A worker's word that it is there, by which ``auto`` chooses a device."""

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final

from sqlalchemy import delete, insert, update
from sqlalchemy.exc import SQLAlchemyError

from shared.background import Background
from shared.database import transitions
from shared.database.connection import Database, now
from shared.database.tables import Worker
from shared.jobs import DeviceClass, Kind

LOOK_EVERY_S: Final = 0.2

logger = logging.getLogger(__name__)


class WorkerRegistration(Background):
    """Registers a worker for as long as the block runs; hands its job back at the end.

    Parameters
    ----------
    name
        The worker's, unique among all that ever ran.
    engines
        Kind to engine, of the kinds that it can run.
    beat_interval_s
        How often it says that it is there.
    wait_until_ready
        Waits for that many seconds at most until jobs can be taken, and tells whether they can.
    """

    def __init__(  # noqa: PLR0913 - what the row holds
        self,
        database: Database,
        *,
        name: str,
        device: DeviceClass,
        device_index: int,
        kinds: Sequence[Kind],
        engines: Mapping[Kind, str],
        beat_interval_s: float,
        wait_until_ready: Callable[[float], bool],
    ) -> None:
        super().__init__("presence")
        self._database = database
        self._wait_until_ready = wait_until_ready
        self._name = name
        self._row = {
            "name": name,
            "device": device,
            "device_index": device_index,
            "kinds": list(kinds),
            "engines": dict(engines),
            "beat_interval_s": beat_interval_s,
        }
        self._interval_s = beat_interval_s
        # A fork must not come while a connection is open: a child that inherits SQLite's would take its
        # parent's locks for its own.
        self._connected = threading.Lock()
        os.register_at_fork(
            before=self._connected.acquire,
            after_in_parent=self._connected.release,
            after_in_child=self._connected.release,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave; what was running here goes back to the queue."""
        super().__exit__(kind, error, trace)
        for job in transitions.requeue_jobs_of(self._database, self._name):
            logger.info("job %s is handed back and %s", job.id, job.state)
        with self._database.writing() as session:
            session.execute(delete(Worker).where(Worker.name == self._name))

    def _run(self) -> None:
        while not self._left.is_set() and not self._wait_until_ready(LOOK_EVERY_S):
            pass
        while not self._left.is_set():
            try:
                with self._connected:
                    self._say_so()
                    self._database.close()
            except SQLAlchemyError as error:
                logger.warning("the database does not answer, the next beat tries again: %s", error)
            self._left.wait(self._interval_s)

    def _say_so(self) -> None:
        """Write that this worker is there; register it where the row is not, or no longer, there."""
        with self._database.writing() as session:
            beat = update(Worker).where(Worker.name == self._name).values(beat_at=now()).returning(Worker.name)
            if session.execute(beat, execution_options={"synchronize_session": False}).one_or_none() is None:
                session.execute(insert(Worker).values(**self._row, started_at=now(), beat_at=now()))
