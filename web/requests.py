"""What every request has: an identifier, and a body that can be read or a clear answer why not."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import IO, Annotated, Any, Final, cast
from urllib.parse import urlsplit

from flask import Flask, Request, Response, g, request
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from werkzeug.exceptions import BadRequest
from werkzeug.wsgi import LimitedStream

from shared.errors import CrossSiteError, RequestInvalidError, RequestMalformedError
from shared.ids import is_id, make_id
from shared.jobs import DeviceClass, Kind, State
from shared.queries import JobFilter
from shared.schemas.problems import list_problems, list_unstorable
from web.access import get_owner

WAIT_MOST_S: Final = 60
IDEMPOTENCY_KEY_LENGTH_MOST: Final = 255
_REQUEST_ID: Final = re.compile(r"[\w.-]{1,128}", re.ASCII)
_WAIT: Final = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:$|[,;])", re.IGNORECASE)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
HEADERS: Final = {
    # Scripts, styles and all else are our own files; a player may play the file that its page was just given.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
LABEL: Final = "label."
"""How the parameters begin that filter by a label."""


class _EndlessBody(LimitedStream):
    """A body that comes without its length: read whole, it is refused at the limit, and not cut there."""

    def readall(self) -> bytes:
        """See ``io.RawIOBase``."""
        whole = super().readall()
        if self.is_exhausted:
            self.on_exhausted()
        return whole


class _Request(Request):
    @cached_property
    def stream(self) -> IO[bytes]:
        """See ``werkzeug.Request``."""
        if self.content_length is None and self.max_content_length and "wsgi.input_terminated" in self.environ:
            return cast("IO[bytes]", _EndlessBody(self.input_stream, self.max_content_length, is_max=True))
        return super().stream


def add_to(app: Flask) -> None:
    """Give every request an identifier, the client's own if it sent one, and every response the same."""
    app.request_class = _Request

    @app.before_request
    def name_request() -> None:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else make_id()

    @app.before_request
    def refuse_other_sites() -> None:
        """Refuse what another site's page makes a browser send; programs send neither of these headers."""
        if request.method in {"GET", "HEAD", "OPTIONS"}:
            return
        origin = urlsplit(request.headers.get("Origin", ""))
        same_site = request.headers.get("Sec-Fetch-Site", "none") in {"same-origin", "none"}
        if not same_site or (origin.geturl() and origin.netloc != request.host):
            raise CrossSiteError("This came from a page of another site; open this service's own pages instead.")

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


def read_json() -> Any:  # noqa: ANN401 - JSON is anything
    """Return the body.

    Raises
    ------
    RequestMalformedError
        It is not JSON.
    """
    try:
        body = request.get_json(force=True)
    except (BadRequest, RecursionError) as error:
        raise RequestMalformedError(
            'The body is not JSON in UTF-8; send an object such as {"kind": "knn", "params": {}}.'
        ) from error
    problems = list_unstorable(body)
    if problems:
        raise RequestInvalidError(problems)
    return body


def read_idempotency_key() -> str | None:
    """Return the header ``Idempotency-Key``.

    Raises
    ------
    RequestMalformedError
        It is empty or too long.
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= IDEMPOTENCY_KEY_LENGTH_MOST:
        raise RequestMalformedError(
            f"The header Idempotency-Key has {len(key)} characters; give 1 to {IDEMPOTENCY_KEY_LENGTH_MOST}."
        )
    return key


def read_wait_s() -> int:
    """Return how long the client would wait, by ``Prefer: wait=N`` (RFC 7240); 0 without it."""
    found = _WAIT.search(",".join(request.headers.getlist("Prefer")))
    return min(int(found[1]), WAIT_MOST_S) if found else 0


def _read_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("lies outside of the calendar") from error


def _refuse_number(text: str) -> str:
    """Refuse seconds since 1970, which pydantic would take: no answer has them, and a year alone is no moment."""
    if not _DATE.match(text):
        raise ValueError("is not a moment as RFC 3339 writes it; give 2026-01-31T12:00:00Z, for example")
    return text


Moment = Annotated[AwareDatetime, BeforeValidator(_refuse_number), AfterValidator(_read_utc)]


class ListQuery(BaseModel):
    """The query of ``GET /jobs``; query strings are text, so numbers are read from it."""

    model_config = ConfigDict(extra="forbid")

    state: State | None = None
    kind: Kind | None = None
    device: DeviceClass | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50
    cursor: Annotated[str | None, Field(description="The `next_cursor` of the page before.")] = None


def read_list_query(given: Mapping[str, str]) -> tuple[JobFilter, int, str | None]:
    """Return which jobs to list, how many, and before which one.

    Parameters
    ----------
    given
        The query's parameters.

    Raises
    ------
    RequestInvalidError
        Naming each parameter that is wrong.
    """
    labels = {name.removeprefix(LABEL): value for name, value in given.items() if name.startswith(LABEL)}
    others = {name: value for name, value in given.items() if not name.startswith(LABEL)}
    try:
        query = ListQuery.model_validate(others)
    except ValidationError as error:
        raise RequestInvalidError(list_problems(error, others)) from error
    problems = list_unstorable(labels)
    if problems:
        raise RequestInvalidError(problems)
    if query.cursor is not None and not is_id(query.cursor):
        raise RequestInvalidError.at("/cursor", "is not a cursor; give the next_cursor of the page before")
    owner = get_owner() or None  # where there are no keys, all is everybody's
    wanted = JobFilter(owner, query.state, query.kind, query.device, labels, query.created_after, query.created_before)
    return wanted, query.limit, query.cursor
