"""What several operations share: headers, parameters, and the problems that any may answer with."""

from collections.abc import Mapping
from typing import Final

from web.openapi.operation import Node
from web.request_hooks import MAX_IDEMPOTENCY_KEY_LENGTH, MAX_WAIT_S

_TEXT: Final[Node] = {"type": "string"}


def _header(description: str, schema: Node = _TEXT, *, always: bool = False) -> Node:
    return {"description": description, "schema": schema, **({"required": True} if always else {})}


def _parameter(name: str, description: str, schema: Node = _TEXT, place: str = "header") -> Node:
    return {"name": name, "in": place, "description": description, "schema": schema}


HEADERS: Final[Mapping[str, Node]] = {
    "X-Request-ID": _header("Names the request in every log; the client's own where it sent one.", always=True),
    "Location": _header("Where the job is.", always=True),
    "ETag": _header("Changes whenever what is shown does.", always=True),
    "Retry-After": _header("Seconds after which to ask again; missing once the job has ended.", {"type": "integer"}),
    "Preference-Applied": _header("The `wait` that was granted."),
    "Accept-Ranges": _header("`bytes`: ranges may be asked for."),
    "Content-Range": _header("Which bytes these are.", always=True),
    "WWW-Authenticate": _header("`Bearer`.", always=True),
}

PARAMETERS: Final[Mapping[str, Node]] = {
    "Idempotency-Key": _parameter(
        "Idempotency-Key",
        "Makes it safe to repeat: the same key and body again give the same job.",
        {"type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY_LENGTH},
    ),
    "Prefer": _parameter("Prefer", f"`wait=N` (RFC 7240): wait up to N seconds, {MAX_WAIT_S} at most, for more."),
    "If-None-Match": _parameter("If-None-Match", "The ETag of the copy at hand: 304 while it is still right."),
    "Last-Event-ID": _parameter("Last-Event-ID", "Id of the last event that came: the stream goes on after it."),
    "Range": _parameter("Range", "Which bytes to send, `bytes=0-1023` for example."),
    "download": _parameter("download", "`1` to send it as an attachment, under its name.", place="query"),
    "labels": _parameter(
        "labels",
        "Only jobs with these labels: `label.NAME=VALUE`, as often as wanted.",
        {"type": "object", "propertyNames": {"pattern": r"^label\."}, "additionalProperties": _TEXT},
        "query",
    )
    | {"style": "form", "explode": True},
}

PROBLEMS: Final[Mapping[int, str]] = {
    400: "The request cannot be read, or names a host that this instance does not go by.",
    401: "A key is needed, and the request has none that is known here.",
    403: "A page of another site made a browser send it.",
    404: "There is no such thing, or it belongs to another key.",
    409: "The job's state does not allow it.",
    413: "It is larger than allowed.",
    416: "The file has no such bytes.",
    422: "It was read and is not valid: where `errors` is given, it names each field and the remedy.",
    429: "The key has reached a limit: requests per minute, jobs that wait, or bytes of uploads.",
    500: "Something went wrong in the service.",
    503: "The database does not answer, or as many streams are open as may be.",
    507: "The disk is full.",
}
