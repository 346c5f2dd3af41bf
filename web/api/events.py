"""A job's events as they happen, in the form that browsers' EventSource reads."""

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from flask import Response, json, request
from sqlalchemy.exc import SQLAlchemyError

from shared.database import queries
from shared.database.connection import Database
from shared.database.queries import EventBatch
from shared.database.tables import JobEvent
from shared.errors import BusyError, KeyRequiredError, MindjobsError, RequestMalformedError
from web.api import blueprint
from web.auth import KeyCache, get_key_cache, get_owner
from web.context import get_long_poll_slots, get_services
from web.long_poll import LongPollSlots, poll_intervals
from web.serializers import serialize_event

HEARTBEAT_S: Final = 15.0
"""How long a stream says nothing; writing is how a client that has gone is noticed."""
_HEARTBEAT: Final = b":\n\n"
_RETRY: Final = b"retry: 1000\n\n"  # milliseconds, until a browser whose stream has ended comes back
_EVENT_ID: Final = re.compile(r"\d{1,18}", re.ASCII)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _History:
    """A job's events, for as long as whoever asked may read them."""

    database: Database
    ring: KeyCache
    owner: str
    job_id: str

    def read(self, after: int) -> EventBatch:
        """Read those after one of them; nothing is held between two readings."""
        if not self.ring.knows(self.owner):
            raise KeyRequiredError("The key with which this began is no longer known here.")
        with self.database.reading() as session:
            return queries.read_events(session, self.job_id, after)


@blueprint.get("/jobs/<uuid:job_id>/events")
def stream_events(job_id: UUID) -> Response:
    """Send a job's events, those to come as they happen, until it has ended; after ``Last-Event-ID`` where given."""
    after = _read_last_event_id()
    history = _History(get_services().database, get_key_cache(), get_owner(), str(job_id))
    news = history.read(after)
    if news.last and not news.events:
        return Response(status=204)  # tells a browser not to come back
    stream = _follow(get_long_poll_slots(), history, after)
    next(stream)  # has a seat from here on, and gives it back when it is closed or forgotten
    # A proxy that buffers or keeps would turn news into history.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Response(stream, content_type="text/event-stream", headers=headers)


def _read_last_event_id() -> int:
    given = request.headers.get("Last-Event-ID", "0")
    if not _EVENT_ID.fullmatch(given):
        raise RequestMalformedError(
            "The header Last-Event-ID is not the id of an event; send the last one that came, "
            "or leave the header out to read from the start."
        )
    return int(given)


def _follow(room: LongPollSlots, history: _History, after: int) -> Iterator[bytes]:
    """Write what comes after an event; the first item is empty, and says that there was a seat.

    Raises
    ------
    BusyError
        There was none.
    """
    with room.sit() as seated:
        if not seated:
            raise BusyError("As many streams are open as may be; ask for the job itself instead, or try again later.")
        yield b""
        yield _RETRY
        spoke_at = time.monotonic()
        pauses_s = poll_intervals()
        while (news := _look(history, after)) is not None:
            if news.events:
                yield b"".join(_format_event(event) for event in news.events)
                after = news.events[-1].id
                spoke_at = time.monotonic()
            elif time.monotonic() - spoke_at >= HEARTBEAT_S:
                yield _HEARTBEAT
                spoke_at = time.monotonic()
            if news.last:
                return
            if not news.more:
                time.sleep(next(pauses_s))


def _look(history: _History, after: int) -> EventBatch | None:
    """Return the news; ``None`` where the stream ends without its last event: the client comes back and is told why."""
    try:
        return history.read(after)
    except MindjobsError:  # the job was deleted, or the key revoked
        return None
    except SQLAlchemyError as error:
        logger.warning("a stream of job %s ends, the database does not answer: %s", history.job_id, error)
        return None


def _format_event(event: JobEvent) -> bytes:
    # JSON escapes the ends of lines, so this is one.
    return f"id: {event.id}\nevent: {event.kind}\ndata: {json.dumps(serialize_event(event))}\n\n".encode()
