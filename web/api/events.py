"""Streams the events of a job as they happen, in the format that ``EventSource`` in browsers reads."""

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from flask import Response, json, request
from sqlalchemy.exc import SQLAlchemyError

from shared import sessions
from shared.database import queries
from shared.database.connection import Database
from shared.database.queries import EventBatch
from shared.database.tables import JobEvent
from shared.errors import BusyError, KeyRequiredError, MindjobsError, RequestMalformedError
from shared.texts import text
from web.api import blueprint
from web.auth import get_owner, get_session_id
from web.context import get_context
from web.key_cache import KeyCache
from web.long_poll import LongPollSlots, iter_poll_intervals
from web.serializers import serialize_event

HEARTBEAT_S: Final = 15.0
"""After this time without events, the stream sends a comment, so that proxies do not close the connection."""
_HEARTBEAT: Final = b":\n\n"
_RETRY: Final = b"retry: 1000\n\n"  # a browser reconnects 1,000 milliseconds after a stream has ended
_EVENT_ID: Final = re.compile(r"\d{1,18}", re.ASCII)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _EventReader:
    """Reads the events of a job while the client's API key and, if it has one, its session are valid."""

    database: Database
    key_cache: KeyCache
    owner: str
    session_id: str | None
    job_id: str

    def read(self, after: int) -> EventBatch:
        """Read the events after the event with the id ``after``. No database connection is held between two reads."""
        session_ended = self.session_id is not None and sessions.find_owner(self.database, self.session_id) is None
        if session_ended or not self.key_cache.is_valid(self.owner):
            raise KeyRequiredError(text("key-revoked"))
        with self.database.reading() as session:
            return queries.read_events(session, self.job_id, after)


@blueprint.get("/jobs/<uuid:job_id>/events")
def stream_events(job_id: UUID) -> Response:
    """Stream the events of a job until the job has ended: all events, or the events after ``Last-Event-ID``."""
    after = _read_last_event_id()
    context = get_context()
    database = context.services.database
    reader = _EventReader(database, context.key_cache, get_owner(), get_session_id(), str(job_id))
    batch = reader.read(after)
    if batch.last and not batch.events:
        return Response(status=204)  # this status makes a browser not reconnect
    stream = _stream(context.long_poll_slots, reader, after)
    next(stream)  # reserves the slot, which is released when the stream is closed or garbage-collected
    # These headers turn off buffering and caching in proxies, which would delay the events.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Response(stream, content_type="text/event-stream", headers=headers)


def _read_last_event_id() -> int:
    given = request.headers.get("Last-Event-ID", "0")
    if not _EVENT_ID.fullmatch(given):
        raise RequestMalformedError(text("last-event-id-invalid"))
    return int(given)


def _stream(slots: LongPollSlots, reader: _EventReader, after: int) -> Iterator[bytes]:
    """Yield the events after the event with id ``after``. The first item is empty and shows that a slot is reserved.

    Raises
    ------
    BusyError
        No slot was free.
    """
    with slots.reserve() as reserved:
        if not reserved:
            raise BusyError(text("streams-full"))
        yield b""
        yield _RETRY
        written_at = time.monotonic()
        intervals_s = iter_poll_intervals()
        while (batch := _read(reader, after)) is not None:
            if batch.events:
                yield b"".join(_format_event(event) for event in batch.events)
                after = batch.events[-1].id
                written_at = time.monotonic()
            elif time.monotonic() - written_at >= HEARTBEAT_S:
                yield _HEARTBEAT
                written_at = time.monotonic()
            else:
                yield b""  # lets the server end the stream as soon as the client has disconnected
            if batch.last:
                return
            if not batch.more:
                time.sleep(next(intervals_s))


def _read(reader: _EventReader, after: int) -> EventBatch | None:
    """Read the events after the event with the id ``after``.

    Returns
    -------
    The events; ``None`` if an error ends the stream before the job's last event. The client then reconnects, and the
    response to its new request is the error.
    """
    try:
        return reader.read(after)
    except MindjobsError:  # the job was deleted, or the key was revoked
        return None
    except SQLAlchemyError as error:
        logger.warning("a stream of job %s ends: the database does not answer: %s", reader.job_id, error)
        return None


def _format_event(event: JobEvent) -> bytes:
    # JSON escapes line breaks, so the data is a single line.
    return f"id: {event.id}\nevent: {event.kind}\ndata: {json.dumps(serialize_event(event))}\n\n".encode()
