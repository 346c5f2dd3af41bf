"""Stores uploaded files.

Each file gets a new id, and its media type is detected from its content. All uploads of an owner together have a size
limit; the anonymous owner has no such limit.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Final

from sqlalchemy import insert

from shared.database import queries
from shared.database.connection import now
from shared.database.tables import NAME_LENGTH, Upload
from shared.disk_space import require_free_space
from shared.errors import LimitError, RequestInvalidError
from shared.files.keys import upload_key
from shared.ids import is_id, make_id
from shared.inspection.inspectors import get_first_state
from shared.inspection.upload_kinds import START_BYTES, detect_kind
from shared.jobs import ANONYMOUS
from shared.services import Services
from shared.settings import Settings
from shared.texts import text
from web.media_types import detect_media_type

CHUNK_BYTES: Final = 2**18
MULTIPART_OVERHEAD_BYTES: Final = 2**16
"""How many bytes a multipart body may contain in addition to the file."""
_FILE: Final = "/file"


def read_chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the content of a file in chunks."""
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def store(services: Services, chunks: Iterable[bytes], filename: str | None, owner: str) -> Upload:
    """Store a file. After an error nothing is stored.

    Raises
    ------
    RequestInvalidError
        The file is empty, or its name is a path or too long.
    TooLargeError
        The file is larger than the owner's next upload may be.
    LimitError
        The owner's limit is reached.
    DiskFullError
        There is too little free space.
    """
    name, settings = _check_filename(filename), services.settings
    require_free_space(settings, services.files)
    upload_id = make_id()
    max_bytes = require_free_bytes(services, owner)
    stored = services.files.put(upload_key(upload_id), chunks, max_bytes=max_bytes)
    if not stored.bytes:
        services.files.remove(stored.key)
        raise RequestInvalidError.at(_FILE, text("upload-empty"))
    with services.files.local_copy(stored.key) as path:
        media_type = detect_media_type(path)
        with path.open("rb") as file:
            kind = detect_kind(file.read(START_BYTES), name)
    row = insert(Upload).values(
        id=upload_id,
        owner=owner,
        key=stored.key,
        filename=name,
        media_type=media_type,
        bytes=stored.bytes,
        sha256=stored.sha256,
        created_at=now(),
        kind=kind,
        inspection_state=get_first_state(kind),
    )
    with services.database.writing() as session:
        # The limit is checked again, since other requests of the owner may have stored files since the first check.
        fits = (
            owner == ANONYMOUS
            or queries.count_uploaded_bytes(session, owner) + stored.bytes <= settings.max_uploaded_bytes
        )
        upload = session.scalars(row.returning(Upload)).one() if fits else None
    if upload is None:
        services.files.remove(stored.key)
        raise _make_limit_error(settings)
    if upload.inspection_state is not None:
        # After the commit, since the inspection may be faster than this process and must find the row.
        services.broker.wake_inspector()
    return upload


def find_uploads(services: Services, upload_ids: Sequence[str], owner: str) -> list[Upload]:
    """Return the uploads with the given ids that exist and belong to the owner, in the order of the ids."""
    ids = [upload_id for upload_id in upload_ids if is_id(upload_id)]
    with services.database.reading() as session:
        uploads = queries.find_uploads(session, ids, owner)
    return [uploads[upload_id] for upload_id in ids if upload_id in uploads]


def count_free_bytes(services: Services, owner: str) -> int:
    """Return the maximum size of an owner's next upload, in bytes; 0 if the owner's limit is reached."""
    settings = services.settings
    if owner == ANONYMOUS:
        return settings.max_upload_bytes
    with services.database.reading() as session:
        free_bytes = settings.max_uploaded_bytes - queries.count_uploaded_bytes(session, owner)
    return max(0, min(free_bytes, settings.max_upload_bytes))


def require_free_bytes(services: Services, owner: str) -> int:
    """Return the maximum size of an owner's next upload, in bytes; raise an error instead of returning 0.

    Raises
    ------
    LimitError
        The owner's limit is reached.
    """
    free_bytes = count_free_bytes(services, owner)
    if not free_bytes:
        raise _make_limit_error(services.settings)
    return free_bytes


def _make_limit_error(settings: Settings) -> LimitError:
    return LimitError(text("uploads-full", max_bytes=settings.max_uploaded_bytes, days=settings.retention_days))


def _check_filename(filename: str | None) -> str | None:
    if not filename:
        return None
    if re.search(r"[/\\\x00-\x1f\x7f]", filename) or filename in {".", ".."}:
        raise RequestInvalidError.at(_FILE, text("filename-invalid"))
    if len(filename) > NAME_LENGTH:
        raise RequestInvalidError.at(_FILE, text("filename-too-long", max_length=NAME_LENGTH))
    return filename
