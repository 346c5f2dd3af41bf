"""How operations are described."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Node = dict[str, Any]
"""A part of the document."""

SCHEMAS: Final = "#/components/schemas/"
JSON: Final = "application/json"


def refer(name: str) -> Node:
    """Refer to a schema by its name."""
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
        When it is sent.
    content
        Media type to description of the body; empty for a response without a body.
    headers
        Names of headers that are described in ``web.openapi.components``.
    """

    description: str
    content: Node = field(default_factory=dict)
    headers: tuple[str, ...] = ()


def describe_json(description: str, schema: str) -> Response:
    """Describe a response whose body is a JSON document of one schema."""
    return Response(description, describe_content(JSON, refer(schema)))


@dataclass(frozen=True)
class Operation:
    """One call of the API. Its address, method and summary come from its route and view.

    Parameters
    ----------
    tag
        The group to which it belongs.
    responses
        Status to response, of successful calls.
    problems
        Statuses of problems besides those that every operation may have.
    parameters
        Names of header and query parameters that are described in ``web.openapi.components``.
    query
        Name of the schema whose fields are its query parameters.
    body
        Media type to description of the request's body.
    """

    tag: str
    responses: Mapping[int, Response]
    problems: tuple[int, ...] = ()
    parameters: tuple[str, ...] = ()
    query: str | None = None
    body: Node | None = None
