"""Tells browsers and proxies which responses they may store: no pages, and nothing that a session read except files.

A page, or JSON that was read by a cookie, contains what only the signed-in user may see, and must not be found on this
computer after the user has signed out. A response to a program that sends its key is not changed: a program keeps only
what it wants to keep, and reads jobs again by their ETag.
"""

from flask import Flask, Response, request

from web.auth import get_session_id


def init_app(app: Flask) -> None:
    """Add ``Cache-Control`` to the responses that nobody may store."""
    app.after_request(_forbid_storing)


def _forbid_storing(response: Response) -> Response:
    """Forbid to store pages, and everything that was read by a session.

    Two kinds of response are excluded. Stored files are private already (`web.stored_files`), and a browser may keep
    them, since players and pictures read them again. The service's own static files are the same for everyone.
    """
    if response.mimetype != "text/html" and get_session_id() is None:
        return response
    is_static = (request.endpoint or "").rpartition(".")[2] == "static"
    if not is_static and not response.cache_control.private:
        response.headers["Cache-Control"] = "private, no-store"
    return response
