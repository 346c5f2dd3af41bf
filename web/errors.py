"""Turns every error into a response: problem+json (RFC 9457) for programs, a page for people."""

import logging
from collections.abc import Sequence
from http import HTTPStatus

from flask import Flask, Response, g, json, render_template, request
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException

from shared.database.connection import is_database_full
from shared.errors import (
    DiskFullError,
    EncodingUnsupportedError,
    KeyRequiredError,
    MindjobsError,
    Problem,
    RequestInvalidError,
    is_disk_full,
)
from shared.schemas import responses
from shared.texts import Text, render, render_title, text
from web.context import get_services

PROBLEM_JSON = "application/problem+json"
logger = logging.getLogger(__name__)


def init_app(app: Flask) -> None:
    """Register the handlers for errors of HTTP, this service, the database and the system, and unexpected errors."""
    app.register_error_handler(HTTPException, _handle_http)
    app.register_error_handler(MindjobsError, _handle_own)
    app.register_error_handler(SQLAlchemyError, _handle_database)
    app.register_error_handler(OSError, _handle_system)
    app.register_error_handler(Exception, _handle_unexpected)


def _handle_http(error: HTTPException) -> Response | HTTPException:
    if error.code is None or error.code < HTTPStatus.BAD_REQUEST:  # a redirect
        return error
    status = HTTPStatus(error.code)
    error_type = status.phrase.lower().replace(" ", "-")
    response = _respond(status, error_type, status.phrase, _describe_http(error, status))
    response.headers.extend({name: value for name, value in error.get_headers() if name not in response.headers})
    return response


def _describe_http(error: HTTPException, status: HTTPStatus) -> Text:
    if isinstance(error, CSRFError):
        return text("form-expired")
    own = {
        HTTPStatus.NOT_FOUND: text("address-not-found"),
        HTTPStatus.METHOD_NOT_ALLOWED: text("method-not-allowed", method=request.method),
        HTTPStatus.PRECONDITION_FAILED: text("version-changed"),
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: text("body-too-large", max_bytes=request.max_content_length),
        HTTPStatus.TOO_MANY_REQUESTS: text("rate-exceeded", limit=error.description),
    }
    return own.get(status) or text("http-error", description=error.description or status.phrase)


def _handle_own(error: MindjobsError) -> Response:
    problems = error.problems if isinstance(error, RequestInvalidError) else ()
    response = _respond(error.status, error.type, error.title, error.text, problems)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, EncodingUnsupportedError):
        response.headers["Accept-Encoding"] = "gzip"
    if isinstance(error, KeyRequiredError):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _handle_database(error: SQLAlchemyError) -> Response:
    if is_database_full(error):
        logger.error("request %s failed because the disk of the database is full: %s", g.get("request_id"), error)
        return _handle_own(DiskFullError(get_services().settings.storage))
    unreachable = isinstance(error, OperationalError | PoolTimeoutError)
    if not unreachable and not (isinstance(error, DBAPIError) and error.connection_invalidated):
        return _handle_unexpected(error)
    logger.warning("the database does not answer: %s", error)
    error_type = "database-unavailable"
    response = _respond(503, error_type, render_title(error_type), text("database-unavailable"))
    response.headers["Retry-After"] = "5"
    return response


def _handle_system(error: OSError) -> Response:
    if not is_disk_full(error):
        return _handle_unexpected(error)
    logger.error("request %s failed because the disk is full: %s", g.get("request_id"), error)
    return _handle_own(DiskFullError(get_services().settings.storage))


def _handle_unexpected(error: Exception) -> Response:
    request_id = g.get("request_id")
    logger.error("request %s failed", request_id, exc_info=error)
    error_type = "internal-error"
    return _respond(500, error_type, render_title(error_type), text("request-failed", request=request_id))


def _wants_page() -> bool:
    """Return whether the client prefers HTML, as browsers do. A program that accepts any media type gets JSON."""
    return request.accept_mimetypes.best_match([PROBLEM_JSON, "text/html"]) == "text/html"


def _respond(status: int, error_type: str, title: str, what: Text, problems: Sequence[Problem] = ()) -> Response:
    if request.path.startswith("/api/") or not _wants_page():
        body = responses.Problem(type=error_type, title=title, status=int(status), detail=render(what))
        if problems:
            body["errors"] = [
                {"pointer": problem.pointer, "code": problem.code, "detail": problem.detail} for problem in problems
            ]
        return Response(json.dumps(body), int(status), content_type=PROBLEM_JSON)
    page = render_template("pages/error.html", status=int(status), title=title, detail=render(what))
    return Response(page, int(status), content_type="text/html; charset=utf-8")
