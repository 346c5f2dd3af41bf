"""The types that describe the operations of the API."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Node = dict[str, Any]
"""A part of the OpenAPI document."""

SCHEMAS: Final = "#/components/schemas/"
JSON: Final = "application/json"


def refer(name: str) -> Node:
    """Build a reference to the schema with this name."""
    return {"$ref": SCHEMAS + name}


def describe_content(media_type: str, schema: Node) -> Node:
    """Describe a body of one media type."""
    return {media_type: {"schema": schema}}


@dataclass(frozen=True)
class Response:
    """One response of an operation.

    Parameters
    ----------
    description
        When this response is sent.
    content
        The description of the body, keyed by media type; empty for a response without a body.
    headers
        The names of the response's headers. ``web.openapi.components`` describes these headers.
    by_server
        Whether the web server sends the response without the application, and so without ``X-Request-ID``.
    """

    description: str
    content: Node = field(default_factory=dict)
    headers: tuple[str, ...] = ()
    by_server: bool = False


def describe_json(description: str, schema: str) -> Response:
    """Describe a response whose body is a JSON document of one schema."""
    return Response(description, describe_content(JSON, refer(schema)))


@dataclass(frozen=True)
class Operation:
    """One operation of the API. Its method and its address come from its route, its summary from its view.

    Parameters
    ----------
    tag
        The group to which the operation belongs.
    responses
        The responses other than problems (``application/problem+json``), keyed by status.
    problems
        The statuses of problems that this operation can return in addition to those that every operation can return.
    parameters
        The names of header and query parameters that ``web.openapi.components`` describes.
    query
        The name of a schema. Each field of this schema is a query parameter of the operation.
    body
        The description of the request's body, keyed by media type.
    """

    tag: str
    responses: Mapping[int, Response]
    problems: tuple[int, ...] = ()
    parameters: tuple[str, ...] = ()
    query: str | None = None
    body: Node | None = None
