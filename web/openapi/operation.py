"""The words in which operations are described."""

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
    """One answer of an operation.

    Parameters
    ----------
    description
        When it comes.
    content
        Media type to what it holds; empty for an answer without a body.
    headers
        Names of headers that are described in ``web.openapi.components``.
    """

    description: str
    content: Node = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """What can be asked for at one address by one method; both are the route's to know.

    Parameters
    ----------
    tag
        The group it belongs to.
    answers
        Status to answer, where all goes well.
    problems
        Statuses of problems besides those that any operation may have.
    parameters
        Names of header and query parameters that are described in ``web.openapi.components``.
    query
        Name of the schema whose fields are its query parameters.
    body
        Media type to what may be sent.
    """

    tag: str
    answers: Mapping[int, Response]
    problems: tuple[int, ...] = ()
    parameters: tuple[str, ...] = ()
    query: str | None = None
    body: Node | None = None
