"""A worker's word that it is there, by which ``auto`` chooses a device."""

import logging
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from sqlalchemy import delete, insert, update
from sqlalchemy.exc import SQLAlchemyError

from shared import transitions
from shared.database import Database, now
from shared.jobs import DeviceClass, Kind
from shared.tables import Worker

logger = logging.getLogger(__name__)


class Presence:
    """Registers a worker for as long as the block runs; hands its job back at the end.

    Parameters
    ----------
    name
        The worker's, unique among all that ever ran.
    engines
        Kind to engine, of the kinds that it can run.
    beat_interval_s
        How often it says that it is there.
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
    ) -> None:
        self._database = database
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
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="presence", daemon=True)

    def __enter__(self) -> Self:
        """Register, and go on saying so."""
        self._register()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave; what was running here goes back to the queue."""
        self._leaving.set()
        self._thread.join()
        for job in transitions.release(self._database, self._name):
            logger.info("job %s goes back to the queue", job.id)
        with self._database.writing() as session:
            session.execute(delete(Worker).where(Worker.name == self._name))

    def _register(self) -> None:
        with self._database.writing() as session:
            session.execute(insert(Worker).values(**self._row, started_at=now(), beat_at=now()))

    def _beat(self) -> None:
        while not self._leaving.wait(self._interval_s):
            try:
                with self._database.writing() as session:
                    beat = update(Worker).where(Worker.name == self._name).values(beat_at=now()).returning(Worker.name)
                    known = session.execute(beat).one_or_none() is not None
                if not known:  # the sweeper took us for dead, after a long stop
                    self._register()
            except SQLAlchemyError as error:
                logger.warning("the database does not answer, the next beat tries again: %s", error)
