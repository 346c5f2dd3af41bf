"""Every error as an answer: problem+json (RFC 9457) for programs, a page for people."""

import logging
from collections.abc import Sequence
from http import HTTPStatus

from flask import Flask, Response, g, json, render_template, request
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException, SecurityError

from shared.errors import DiskFullError, KeyRequiredError, MindjobsError, Problem, RequestInvalidError, is_disk_full
from shared.schemas import responses
from web.context import get_services

logger = logging.getLogger(__name__)


def init_app(app: Flask) -> None:
    """Answer the errors of HTTP, of our own tree, of the database, of the system, and those that nobody foresaw."""
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(MindjobsError, _answer_own)
    app.register_error_handler(SQLAlchemyError, _answer_database)
    app.register_error_handler(OSError, _answer_system)
    app.register_error_handler(Exception, _answer_unforeseen)


def _answer_http(error: HTTPException) -> Response | HTTPException:
    if error.code is None or error.code < HTTPStatus.BAD_REQUEST:  # a redirect
        return error
    status = HTTPStatus(error.code)
    details = {
        HTTPStatus.NOT_FOUND: "There is nothing at this address.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
            f"The body is larger than the {request.max_content_length} bytes allowed; send less."
        ),
    }
    detail = details.get(status, error.description or status.phrase)
    if isinstance(error, CSRFError):
        detail = "This form is no longer good, or came from elsewhere: open its page again and send it from there."
    response = _answer(status, status.phrase.lower().replace(" ", "-"), status.phrase, detail)
    response.headers.extend({name: value for name, value in error.get_headers() if name not in response.headers})
    return response


def _answer_own(error: MindjobsError) -> Response:
    problems = error.problems if isinstance(error, RequestInvalidError) else ()
    response = _answer(error.status, error.type, error.title, error.detail, problems)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, KeyRequiredError):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _answer_database(error: SQLAlchemyError) -> Response:
    unreachable = isinstance(error, OperationalError | PoolTimeoutError)
    if not unreachable and not (isinstance(error, DBAPIError) and error.connection_invalidated):
        return _answer_unforeseen(error)
    logger.warning("the database does not answer: %s", error)
    response = _answer(503, "database-unavailable", "The database does not answer", "Try again in a few seconds.")
    response.headers["Retry-After"] = "5"
    return response


def _answer_system(error: OSError) -> Response:
    if not is_disk_full(error):
        return _answer_unforeseen(error)
    logger.error("request %s found the disk full: %s", g.get("request_id"), error)
    return _answer_own(DiskFullError(get_services().settings.storage))


def _answer_unforeseen(error: Exception) -> Response:
    logger.error("request %s failed", g.get("request_id"), exc_info=error)
    return _answer(
        500,
        "internal-error",
        "Something went wrong in the service",
        f"It is in the log, under request {g.get('request_id')}.",
    )


def _is_for_people() -> bool:
    """Whether a browser shows the answer; programs take anything, and get JSON."""
    if isinstance(request.routing_exception, SecurityError):
        return False  # under a host's name that is not ours there are no addresses for a page to lead to
    return request.accept_mimetypes.best_match(["application/problem+json", "text/html"]) == "text/html"


def _answer(status: int, error_type: str, title: str, detail: str, problems: Sequence[Problem] = ()) -> Response:
    if request.path.startswith("/api/") or not _is_for_people():
        body = responses.Problem(type=error_type, title=title, status=int(status), detail=detail)
        if problems:
            body["errors"] = [{"pointer": problem.pointer, "detail": problem.detail} for problem in problems]
        return Response(json.dumps(body), int(status), content_type="application/problem+json")
    page = render_template("pages/error.html", status=int(status), title=title, detail=detail)
    return Response(page, int(status), content_type="text/html; charset=utf-8")
