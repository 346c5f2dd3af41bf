"""Sends files of the file store as responses."""

from http import HTTPStatus
from typing import Any, assert_never

from flask import redirect, send_file
from werkzeug import Response

from shared.files.file_store import FileStore, LocalFile, SignedAddress
from web.conditions import apply_conditions


def send_stored_file(files: FileStore, key: str, media_type: str, **options: Any) -> Response:  # noqa: ANN401 - Flask's options
    """Send a stored file, as the conditions of the request say, or redirect to the address that the file store signs.

    Only the client may cache the file, not a proxy.

    Parameters
    ----------
    options
        Further keyword arguments of ``flask.send_file``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    PreconditionFailed
        The request requires another version of the file.
    RequestedRangeNotSatisfiable
        The file does not have the requested bytes.
    """
    source = files.download_source(key)
    match source:
        case LocalFile(path):
            response = send_file(path, media_type, conditional=False, **options)
            response.cache_control.private = True
            return apply_conditions(response)
        case SignedAddress(url):
            return redirect(url, HTTPStatus.TEMPORARY_REDIRECT)
        case _:
            assert_never(source)
