"""Requests that wait for the inspections of uploads; no thread waits with them.

A view that must wait raises `InspectionPendingError`. The server (`web.asgi`) then waits in its event loop, and calls
the application again. So a thousand requests that name an upload which is inspected at the moment hold no thread, and
one query at a time serves all of them (`InspectionWaits`).
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor
from typing import Final, TypeVar

from flask import request

from shared.database import inspections
from shared.errors import UploadPendingError
from shared.services import Services
from web.context import get_context
from web.long_poll import iter_poll_intervals

T = TypeVar("T")
SUBMISSION_WAIT_S: Final = 5.0
"""How long a submission waits for the uploads that it names."""
WAITED_S: Final = "mindjobs.waited_s"
"""The key of a WSGI environment under which the server says how long the request has waited for inspections, in
seconds. It is missing if the application runs without our server."""


class InspectionPendingError(BaseException):
    """The request must wait for inspections; then the server calls the application again.

    This class is no ``Exception``, since no error handler of the application may handle it.

    Parameters
    ----------
    upload_ids
        The uploads.
    wait_s
        How long to wait at most.
    """

    def __init__(self, upload_ids: Iterable[str], wait_s: float) -> None:
        super().__init__()
        self.upload_ids = frozenset(upload_ids)
        self.wait_s = wait_s


def wait_for_inspections(services: Services, upload_ids: Collection[str], wait_s: float) -> None:
    """Wait until uploads are inspected, or the time is up, which includes the time that the request has waited before.

    Nothing may have been changed for the request yet, since the server calls the application again.
    """
    if WAITED_S not in request.environ:
        _hold(services, upload_ids, wait_s)
    elif (left_s := wait_s - request.environ[WAITED_S]) > 0:
        raise InspectionPendingError(upload_ids, left_s)


def call_inspected(services: Services, function: Callable[[], T]) -> T:
    """Call a function that needs the inspections of uploads; while they are pending, wait in the event loop.

    After a wait, another inspection can be pending: the one that was running may have read the file in another way.

    Raises
    ------
    UploadPendingError
        The inspections have not ended in time.
    """
    if WAITED_S not in request.environ:
        return hold_inspected(services, function)
    try:
        return function()
    except UploadPendingError as error:
        wait_for_inspections(services, error.upload_ids, SUBMISSION_WAIT_S)
        raise


def hold_inspected(services: Services, function: Callable[[], T]) -> T:
    """Do the same as `call_inspected`, but wait in this thread, if a slot for long polls is free.

    Raises
    ------
    UploadPendingError
        The inspections have not ended in time.
    """
    give_up_at_s = time.monotonic() + SUBMISSION_WAIT_S
    while True:
        try:
            return function()
        except UploadPendingError as error:
            left_s = give_up_at_s - time.monotonic()
            if left_s <= 0 or not _hold(services, error.upload_ids, left_s):
                raise


def _hold(services: Services, upload_ids: Collection[str], wait_s: float) -> bool:
    """Wait in this thread; return false at once if no slot for long polls is free."""
    deadline = time.monotonic() + wait_s
    intervals_s = iter_poll_intervals()
    with get_context().long_poll_slots.reserve() as reserved:
        while reserved and _find_pending(services, upload_ids) and (left_s := deadline - time.monotonic()) > 0:
            time.sleep(min(next(intervals_s), left_s))
    return reserved


class InspectionWaits:
    """Lets the tasks of an event loop wait for inspections, with one query at a time for all of them.

    Parameters
    ----------
    services
        Contain the database.
    threads
        The threads in which the queries run.
    """

    def __init__(self, services: Services, threads: Executor) -> None:
        self._services = services
        self._threads = threads
        self._waiting: dict[asyncio.Event, frozenset[str]] = {}
        self._intervals_s = iter_poll_intervals()
        self._task: asyncio.Task[None] | None = None

    async def wait(self, upload_ids: frozenset[str], wait_s: float) -> None:
        """Wait until none of the uploads is pending, or the time is up."""
        ready = asyncio.Event()
        self._waiting[ready] = upload_ids
        self._intervals_s = iter_poll_intervals()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(wait_s):
                await ready.wait()
        except TimeoutError:
            return
        finally:
            self._waiting.pop(ready, None)

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await asyncio.sleep(next(self._intervals_s))
            wanted = frozenset[str]().union(*self._waiting.values())
            try:
                pending = await loop.run_in_executor(self._threads, _find_pending, self._services, wanted)
            except Exception:  # noqa: BLE001 - the view finds the same error when it is called again
                pending = set()
            for ready, upload_ids in list(self._waiting.items()):
                if not pending & upload_ids and upload_ids <= wanted:
                    del self._waiting[ready]
                    ready.set()


def _find_pending(services: Services, upload_ids: Collection[str]) -> set[str]:
    with services.database.reading() as session:
        return inspections.find_pending(session, upload_ids)
