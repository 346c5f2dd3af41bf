"""Sends files of the file store as responses."""

from http import HTTPStatus
from typing import Any, Final, assert_never
from urllib.parse import quote

from flask import redirect, send_file
from werkzeug import Response

from shared.files.download_names import make_ascii_name
from shared.files.file_store import FileStore, LocalFile, SignedAddress
from web.conditions import apply_conditions

_UNQUOTED: Final = "!#$&+-.^_`|~"
"""The characters, besides letters and digits, that stand for themselves in a name of RFC 8187."""


def send_stored_file(
    files: FileStore,
    key: str,
    media_type: str,
    filename: str,
    *,
    as_attachment: bool,
    **options: Any,  # noqa: ANN401 - Flask's options
) -> Response:
    """Send a stored file, as the conditions of the request say, or redirect to the address that the file store signs.

    Only the client may cache the file, not a proxy.

    Parameters
    ----------
    filename
        The name under which the client should store the file.
    as_attachment
        Whether a browser should store the file rather than show it.
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
            set_filename(response, filename, as_attachment=as_attachment)
            return apply_conditions(response)
        case SignedAddress(url):
            return redirect(url, HTTPStatus.TEMPORARY_REDIRECT)
        case _:
            assert_never(source)


def set_filename(response: Response, filename: str, *, as_attachment: bool) -> None:
    """Say under which name the client should store the response: in Unicode, and in ASCII for old programs.

    References
    ----------
    RFC 6266, section 4, and appendix D for both forms together; RFC 8187, section 3.2, for the form in Unicode.
    """
    plain = make_ascii_name(filename)
    names = {"filename": plain}
    if plain != filename:
        names["filename*"] = f"UTF-8''{quote(filename, safe=_UNQUOTED)}"
    response.headers.set("Content-Disposition", "attachment" if as_attachment else "inline", **names)
