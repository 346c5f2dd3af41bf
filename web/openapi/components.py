"""The parts of the OpenAPI document that several operations share: headers, parameters and problems."""

from collections.abc import Mapping
from typing import Final

from web.long_poll import MAX_WAIT_S
from web.openapi.operation import Node
from web.request_input import MAX_IDEMPOTENCY_KEY_LENGTH

_TEXT: Final[Node] = {"type": "string"}


def _describe_header(description: str, schema: Node = _TEXT, *, required: bool = False) -> Node:
    return {"description": description, "schema": schema, **({"required": True} if required else {})}


def _describe_parameter(name: str, description: str, schema: Node = _TEXT, location: str = "header") -> Node:
    return {"name": name, "in": location, "description": description, "schema": schema}


HEADERS: Final[Mapping[str, Node]] = {
    "X-Request-ID": _describe_header(
        "The id of the request in all logs: the one that the request gave in this header, or a new one.",
        required=True,
    ),
    "Location": _describe_header("The address of the job.", required=True),
    "ETag": _describe_header("Changes whenever the content changes.", required=True),
    "Retry-After": _describe_header(
        "Seconds to wait before the next request; absent once a job has ended.", {"type": "integer"}
    ),
    "Preference-Applied": _describe_header("The `wait` that was granted."),
    "Accept-Ranges": _describe_header("`bytes`: ranges can be requested."),
    "Content-Range": _describe_header("Which bytes of the file follow.", required=True),
    "Accept-Encoding": _describe_header("`gzip`: the compression that request bodies may have.", required=True),
    "WWW-Authenticate": _describe_header("`Bearer`.", required=True),
}

PARAMETERS: Final[Mapping[str, Node]] = {
    "Idempotency-Key": _describe_parameter(
        "Idempotency-Key",
        "Makes the request safe to repeat: the same key and body (or job to retry) return the same job.",
        {"type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY_LENGTH},
    ),
    "Prefer": _describe_parameter(
        "Prefer", f"`wait=N` (RFC 7240): wait up to N seconds, at most {MAX_WAIT_S}, for a change."
    ),
    "If-None-Match": _describe_parameter(
        "If-None-Match", "The ETag of the client's copy: the response is 304 if it has not changed."
    ),
    "Last-Event-ID": _describe_parameter(
        "Last-Event-ID", "The id of the last event that the client received: the stream continues after it."
    ),
    "Range": _describe_parameter("Range", "Which bytes to send, for example `bytes=0-1023`."),
    "download": _describe_parameter("download", "`1` to send the file as an attachment.", location="query"),
    "labels": _describe_parameter(
        "labels",
        "Only jobs with these labels: `label.NAME=VALUE`, once for each label.",
        {"type": "object", "propertyNames": {"pattern": r"^label\."}, "additionalProperties": _TEXT},
        "query",
    )
    | {"style": "form", "explode": True},
}

PROBLEMS: Final[Mapping[int, str]] = {
    400: "The request cannot be read, or its `Host` is not a name of this instance.",
    401: "The request has no valid API key.",
    403: "The request was sent by a page of another site that the operator has not allowed.",
    404: "The resource does not exist, or belongs to another API key.",
    409: "The state of a job does not allow this.",
    413: "The body is larger than allowed.",
    412: "The resource is not in the version that `If-Match` or `If-Unmodified-Since` requires.",
    415: "The `Content-Encoding` of the body is not `gzip`, the only one that is read.",
    416: "The file does not have these bytes.",
    422: "The request is not valid. If there are `errors`, they name each field and the remedy.",
    429: "The API key has reached a limit: requests per minute, queued jobs, or bytes of uploads. Or too many wrong "
    "keys were sent.",
    500: "An unexpected error occurred.",
    503: "The database does not answer, too many event streams are open, or an upload that a job names is not "
    "inspected yet.",
    507: "The disk is full.",
}
