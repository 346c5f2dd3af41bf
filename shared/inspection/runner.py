"""Inspects the uploads that are due: one at a time per machine, and owners take turns.

The state folder of a machine has a lock, and the sweeper that holds it is the one that inspects. A message in Redis
wakes it after an upload; if Redis does not answer, it looks every few seconds.
"""

import fcntl
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from shared.database import inspections
from shared.database.tables import Upload
from shared.inspection.inspectors import INSPECTORS, Inspector, check_answer, start_process
from shared.inspection.sandbox import Answer, NotWantedError, ProcessLostError, SandboxedProcess
from shared.inspection.upload_kinds import UploadKind
from shared.retry_delay import RetryDelay
from shared.services import Services
from shared.state_folder import make_state_folder
from shared.texts import text

LOOK_INTERVAL_S: Final = 10.0
"""How often the database is asked for uploads, apart from wake-up messages."""
LOCK_INTERVAL_S: Final = 1.0
"""How often a process asks for the lock while another one holds it."""
LEASE_S: Final = 10.0
"""How long an inspection is not repeated after its process was lost; `sandbox` asks every 2 s, which extends the
lease."""
DELAY: Final = RetryDelay(first_s=5.0, max_s=300.0)
"""The delay after an attempt that failed for a reason that is not in the file, for example if no process can be
started."""
MAX_ATTEMPTS: Final = 5
LOCK_NAME: Final = "inspection.lock"

logger = logging.getLogger(__name__)


class InspectionRunner:
    """Inspects uploads. All methods but `stop` must be called by the same thread.

    Parameters
    ----------
    prepares
        Whether a process is kept that has already imported what the next inspection needs.
    """

    def __init__(self, services: Services, *, prepares: bool = True) -> None:
        self._services = services
        self._prepares = prepares
        self._prepared: dict[str, SandboxedProcess] = {}
        self._turns: dict[str, int] = {}
        self._turn = 0
        self._stopped = threading.Event()

    def run(self) -> None:
        """Inspect uploads until `stop` is called."""
        try:
            with _hold_lock(self._services, self._stopped):
                while not self._stopped.is_set():
                    self._run_once()
        finally:
            for process in self._prepared.values():
                process.close()
            self._prepared.clear()

    def stop(self) -> None:
        """Let `run` return, after the inspection that runs."""
        self._stopped.set()
        self._services.broker.wake_inspector()

    def inspect_next(self) -> bool:
        """Inspect one upload, if one is due, and return whether one was."""
        with self._services.database.reading() as session:
            owners = inspections.list_waiting_owners(session, INSPECTORS)
        for owner in sorted(owners, key=lambda owner: self._turns.get(owner, 0)):
            upload = inspections.claim(self._services.database, owner, INSPECTORS, LEASE_S)
            if upload is not None:  # otherwise, another machine inspects it
                self._turn += 1
                self._turns[owner] = self._turn
                self._inspect(upload)
                return True
        return False

    def _run_once(self) -> None:
        try:
            self._prepare()
            if self.inspect_next():
                return
        except (SQLAlchemyError, OSError) as error:
            logger.warning("inspecting uploads failed, the next round tries again: %s", error)
            self._stopped.wait(LOOK_INTERVAL_S)
            return
        try:
            self._services.broker.wait_for_upload(LOOK_INTERVAL_S)
        except (RedisError, OSError):
            self._stopped.wait(LOOK_INTERVAL_S)

    def _prepare(self) -> None:
        for inspector in INSPECTORS.values() if self._prepares else ():
            if inspector.function not in self._prepared:
                self._prepared[inspector.function] = start_process(inspector, self._services.settings)

    def _inspect(self, upload: Upload) -> None:
        """Inspect a claimed upload, and store what was found."""
        database, held = self._services.database, inspections.Claim.of(upload)
        try:
            answer = self._find_answer(upload)
        except NotWantedError:
            logger.info("upload %s was deleted while it was inspected, or its lease has expired", upload.id)
            return
        except (OSError, ProcessLostError) as error:
            logger.warning("upload %s could not be inspected in attempt %d: %s", upload.id, held.attempt, error)
            inspections.delay(database, held, DELAY.after(upload.inspection_attempt))
            return
        if answer.problem is not None:
            logger.info("upload %s is unreadable: %s", upload.id, answer.problem.code)
        inspections.finish(database, held, facts=answer.facts, problem=answer.problem)

    def _find_answer(self, upload: Upload) -> Answer:
        if upload.inspection_attempt > MAX_ATTEMPTS:
            return Answer(problem=text("inspection-lost", attempts=MAX_ATTEMPTS))
        inspector = INSPECTORS[UploadKind(upload.kind)]
        try:
            with self._services.files.local_copy(upload.key) as path, path.open("rb") as file:
                return check_answer(inspector, self._run(inspector, file, upload))
        except FileNotFoundError:
            return Answer(problem=text("upload-file-missing"))

    def _run(self, inspector: Inspector, file: BinaryIO, upload: Upload) -> Answer:
        options = inspector.list_options(self._services.settings, json.loads(upload.inspection_options))
        held = inspections.Claim.of(upload)

        def is_wanted() -> bool:
            try:
                return inspections.delay(self._services.database, held, LEASE_S)
            except SQLAlchemyError:  # the outcome is stored if the database answers again before the lease expires
                return True

        prepared = self._prepared.pop(inspector.function, None)
        if prepared is not None:
            try:
                return prepared.inspect(file, options, is_wanted)
            except ProcessLostError:
                logger.info("the process that waited for an upload has ended; another one is started")
        return start_process(inspector, self._services.settings).inspect(file, options, is_wanted)


@contextmanager
def _hold_lock(services: Services, stopped: threading.Event) -> Iterator[None]:
    """Hold the lock of this machine in the block; wait until no other process holds it, or ``stopped`` is set."""
    make_state_folder(services.settings)
    descriptor = os.open(services.settings.home / LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        is_held = _lock(descriptor)
        if not is_held:
            logger.info("another process of this machine inspects uploads; this one will if the other one ends")
        while not is_held and not stopped.wait(LOCK_INTERVAL_S):
            is_held = _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
