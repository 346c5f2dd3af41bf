"""Sends files of the file store as responses."""

from http import HTTPStatus
from typing import Any, assert_never

from flask import redirect, send_file
from werkzeug import Response

from shared.files.file_store import FileStore, LocalFile, SignedAddress


def send_stored_file(files: FileStore, key: str, media_type: str, **options: Any) -> Response:  # noqa: ANN401 - Flask's options
    """Send a stored file, or redirect to the address that the file store signs for it.

    Only the client may cache the file, not a proxy.

    Parameters
    ----------
    options
        Further keyword arguments of ``flask.send_file``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    """
    source = files.download_source(key)
    match source:
        case LocalFile(path):
            response = send_file(path, media_type, **options)
            response.cache_control.private = True
            return response
        case SignedAddress(url):
            return redirect(url, HTTPStatus.TEMPORARY_REDIRECT)
        case _:
            assert_never(source)
