"""Parses the event stream: ``text/event-stream``, line by line."""

from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import IncrementalNewlineDecoder
from typing import Final

from pydantic import ValidationError

from shared.client.responses import Artifact, Progress, StateChange
from shared.jobs import EventKind

MAX_LINE_LENGTH: Final = 2**20
_SHAPES: Final[dict[str, type[StateChange | Progress | Artifact]]] = {
    EventKind.STATE: StateChange,
    EventKind.PROGRESS: Progress,
    EventKind.ARTIFACT: Artifact,
}


@dataclass(frozen=True)
class Event:
    """Something that happened to a job.

    Parameters
    ----------
    data
        The state that the job entered, its progress, or a file that it produced.
    id
        The id of the event in the stream; ``None`` if the event comes from a poll.
    """

    data: StateChange | Progress | Artifact
    id: str | None = None


class MalformedStreamError(ValueError):
    """The content is not an event stream of this service."""


def read_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Yield events as they arrive; an incomplete last event is dropped, and events of an unknown kind are skipped.

    Raises
    ------
    MalformedStreamError
        A line is too long, or the data of an event does not fit the kind of the event.

    References
    ----------
    HTML Living Standard, 9.2.6 "Interpreting an event stream".
    """
    kind, data, event_id = "", list[str](), None
    for line in _split(chunks):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                kind = value
            case "data":
                data.append(value)
            case "id":
                event_id = value
            case "" if not line:
                if data and kind in _SHAPES:
                    yield Event(_parse(kind, "\n".join(data)), event_id)
                kind, data = "", []


def _split(chunks: Iterable[bytes]) -> Iterator[str]:
    """Split a stream into lines; a line may end with CR, LF or both."""
    decoder = IncrementalNewlineDecoder(getincrementaldecoder("utf-8-sig")(errors="replace"), translate=True)
    rest = ""
    for chunk in chunks:
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        yield from lines
        if len(rest) > MAX_LINE_LENGTH:
            raise MalformedStreamError(f"a line has more than {MAX_LINE_LENGTH} characters")


def _parse(kind: str, text: str) -> StateChange | Progress | Artifact:
    try:
        return _SHAPES[kind].model_validate_json(text)
    except ValidationError as error:
        raise MalformedStreamError(f"the data does not fit an event of kind {kind}: {text[:80]!r}") from error
