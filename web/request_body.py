"""The body of a request: its size limit, and its decompression (``Content-Encoding: gzip``)."""

import gzip
import zlib
from functools import cached_property
from typing import IO, Final, cast

from flask import Request
from typing_extensions import override
from werkzeug.wsgi import LimitedStream

from shared.errors import EncodingUnsupportedError, RequestMalformedError
from shared.texts import text
from web.pending_body import MAX_BYTES

GZIP: Final = frozenset({"gzip", "x-gzip"})  # the second name means the same (RFC 9110, section 8.4.1.3)
_IDENTITY: Final = frozenset({"", "identity"})


class _BodyOfUnknownLength(LimitedStream):
    """A request body without Content-Length. A body that reaches the size limit is refused, not truncated."""

    @override
    def readall(self) -> bytes:
        """Read the whole body, and refuse a body that reaches the limit."""
        whole = super().readall()
        if self.is_exhausted:
            self.on_exhausted()
        return whole


class _Decompressed(gzip.GzipFile):
    """A decompressed body; it is decompressed as far as it is read, so that a small body never needs much memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(fileobj=stream, mode="rb")

    @override
    def read(self, size: int | None = -1) -> bytes:
        """Read a part of the body.

        Raises
        ------
        RequestMalformedError
            The body is not complete, or not in the format gzip.
        """
        try:
            return super().read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise RequestMalformedError(text("body-not-gzip")) from error


class BodyRequest(Request):
    """A request whose body is limited in size even if its length is unknown, and decompressed if it is compressed."""

    @cached_property
    def stream(self) -> IO[bytes]:
        """The request's body.

        Raises
        ------
        EncodingUnsupportedError
            The body is compressed in another way than by gzip.
        """
        self.environ[MAX_BYTES] = self.max_content_length
        encoding = self.headers.get("Content-Encoding", "").strip().lower()
        if encoding in _IDENTITY:
            return self._raw_stream
        if encoding not in GZIP:
            raise EncodingUnsupportedError(text("encoding-unsupported", encoding=encoding))
        decompressed = cast("IO[bytes]", _Decompressed(self._raw_stream))
        if not self.max_content_length:
            return decompressed
        return cast("IO[bytes]", _BodyOfUnknownLength(decompressed, self.max_content_length, is_max=True))

    @property
    def _raw_stream(self) -> IO[bytes]:
        if self.content_length is None and self.max_content_length and "wsgi.input_terminated" in self.environ:
            return cast("IO[bytes]", _BodyOfUnknownLength(self.input_stream, self.max_content_length, is_max=True))
        return super().stream
