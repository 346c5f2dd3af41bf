"""Storing what clients send: under a name of our own, typed by its content, within the room that its owner has."""

import re
from collections.abc import Iterator
from typing import IO, Final

from sqlalchemy import insert

from shared.database import queries
from shared.database.connection import now
from shared.database.tables import NAME_LENGTH, Upload
from shared.errors import LimitError, RequestInvalidError
from shared.files.keys import upload_key
from shared.ids import make_id
from shared.jobs import ANONYMOUS
from shared.services import Services
from shared.settings import Settings
from web.media_types import detect_media_type

CHUNK_BYTES: Final = 2**18
MULTIPART_BYTES: Final = 2**16
"""What the parts of a multipart body need beside the file."""


def store(services: Services, stream: IO[bytes], filename: str | None, owner: str) -> Upload:
    """Store a file under an identifier of our own, and tell its type by its content.

    Raises
    ------
    RequestInvalidError, TooLargeError, LimitError
        It is empty, its name is a path, it is over the limit, or there is no room; nothing is kept.
    """
    name, settings = _check_filename(filename), services.settings
    upload_id = make_id()
    room = require_room(services, owner)
    written = services.files.put(upload_key(upload_id), _read(stream), max_bytes=room)
    if not written.bytes:
        services.files.remove(written.key)
        raise RequestInvalidError.at("/file", "is empty; send a file with something in it")
    with services.files.local_copy(written.key) as path:
        media_type = detect_media_type(path)
    row = insert(Upload).values(
        id=upload_id,
        owner=owner,
        key=written.key,
        filename=name,
        media_type=media_type,
        bytes=written.bytes,
        sha256=written.sha256,
        created_at=now(),
    )
    with services.database.writing() as session:
        # Others may have come meanwhile, and taken the room.
        if (
            owner == ANONYMOUS
            or queries.count_uploaded_bytes(session, owner) + written.bytes <= settings.max_uploaded_bytes
        ):
            return session.scalars(row.returning(Upload)).one()
    services.files.remove(written.key)
    raise _refuse(settings)


def count_room(services: Services, owner: str) -> int:
    """Count how many bytes an upload may have; 0 where its owner's take all that they may."""
    settings = services.settings
    if owner == ANONYMOUS:
        return settings.max_upload_bytes
    with services.database.reading() as session:
        room = settings.max_uploaded_bytes - queries.count_uploaded_bytes(session, owner)
    return max(0, min(room, settings.max_upload_bytes))


def require_room(services: Services, owner: str) -> int:
    """Count the same, where there must be room.

    Raises
    ------
    LimitError
        There is none.
    """
    room = count_room(services, owner)
    if not room:
        raise _refuse(services.settings)
    return room


def _refuse(settings: Settings) -> LimitError:
    return LimitError(
        f"The uploads of this key take the {settings.max_uploaded_bytes} bytes that they may; name one that came "
        f"before, or wait: they are forgotten {settings.retention_days:g} days after they came."
    )


def _read(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def _check_filename(filename: str | None) -> str | None:
    if not filename:
        return None
    if re.search(r"[/\\\x00-\x1f\x7f]", filename) or filename in {".", ".."}:
        raise RequestInvalidError.at("/file", "its name is a path or has control characters; send a plain file name")
    if len(filename) > NAME_LENGTH:
        raise RequestInvalidError.at("/file", f"its name is longer than {NAME_LENGTH} characters; shorten it")
    return filename
