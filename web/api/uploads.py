"""Uploads: files that jobs read."""

import re
from collections.abc import Iterator
from io import BufferedReader, RawIOBase
from itertools import chain
from typing import Final, cast
from uuid import UUID

from flask import Response, jsonify, request

from shared.database import inspections, queries
from shared.database.tables import Upload
from shared.errors import NotFoundError, RequestInvalidError
from shared.inspection.upload_kinds import InspectionState
from shared.schemas import responses
from shared.services import Services
from shared.submission import delete
from shared.texts import text
from web.api import blueprint
from web.auth import get_owner
from web.context import get_services
from web.inspections import wait_for_inspections
from web.list_query import read_page_query
from web.long_poll import read_wait_s
from web.serializers import serialize_inspected_upload, serialize_upload
from web.uploads import MULTIPART_OVERHEAD_BYTES, read_chunks, require_free_bytes, store

_MAX_FILE_FIELD_BYTES: Final = 4_096
_FILE_FIELD: Final = re.compile(rb"[\w-]+=@[^\r\n]+")
"""A form field whose value names a file, as ``file=@table.csv``."""


@blueprint.post("/uploads")
def store_upload() -> tuple[responses.UploadSummary, int]:
    """Upload a file, as the multipart field ``file`` or as the body itself."""
    services = get_services()
    request.max_content_length = require_free_bytes(services, get_owner()) + MULTIPART_OVERHEAD_BYTES
    if request.mimetype != "multipart/form-data":
        return _serialize(store(services, _read_body(), None, get_owner())), 201
    files = request.files.getlist("file")
    if len(files) != 1 or len(list(request.files.values())) != 1:
        raise RequestInvalidError.at("/file", text("one-file-expected", count=len(files)))
    return _serialize(store(services, read_chunks(files[0].stream), files[0].filename, get_owner())), 201


@blueprint.get("/uploads")
def list_uploads() -> responses.UploadList:
    """List one's own uploads, newest first."""
    query = read_page_query(request.args.to_dict(flat=False))
    with get_services().database.reading() as session:
        found = queries.list_uploads(session, get_owner(), query.limit + 1, query.cursor)
    page = found[: query.limit]
    return {
        "uploads": [_serialize(upload) for upload in page],
        "next_cursor": page[-1].id if len(found) > query.limit else None,
    }


@blueprint.get("/uploads/<uuid:upload_id>")
def get_upload(upload_id: UUID) -> Response:
    """Read what is known about an upload. With ``Prefer: wait``, wait until it is inspected."""
    services, wait_s = get_services(), read_wait_s()
    upload = _find_inspected(services, str(upload_id))
    if wait_s and upload.inspection_state == InspectionState.PENDING:
        wait_for_inspections(services, [upload.id], wait_s)
        upload = _find_inspected(services, upload.id)
    response = jsonify(serialize_inspected_upload(upload, services.settings.retention_days))
    if wait_s:
        response.headers["Preference-Applied"] = f"wait={wait_s}"
    return response


@blueprint.delete("/uploads/<uuid:upload_id>")
def delete_upload(upload_id: UUID) -> tuple[str, int]:
    """Delete an upload that no queued or running job needs."""
    delete.delete_upload(get_services(), str(upload_id), get_owner())
    return "", 204


def _read_body() -> Iterator[bytes]:
    """Yield the body of the request, unless it is only the name of a file.

    ``curl -d file=@table.csv`` sends the text ``file=@table.csv`` as a form. ``curl --data-binary @table.csv`` sends
    the file, with the same media type.

    Raises
    ------
    RequestInvalidError
        The body is only the name of a file.
    """
    if request.mimetype != "application/x-www-form-urlencoded":
        return read_chunks(request.stream)
    stream = BufferedReader(cast("RawIOBase", request.stream))  # reads the start whole, even if it arrives in parts
    start = stream.read(_MAX_FILE_FIELD_BYTES)
    if len(start) < _MAX_FILE_FIELD_BYTES and _FILE_FIELD.fullmatch(start):
        raise RequestInvalidError.at("/file", text("file-not-attached", text=start.decode(errors="replace")))
    return chain([start], read_chunks(stream))


def _find_inspected(services: Services, upload_id: str) -> Upload:
    with services.database.reading() as session:
        found = inspections.find_with_facts(session, [upload_id], get_owner())
    if upload_id not in found:
        raise NotFoundError(text("uploaded-file-not-found", upload=upload_id))
    return found[upload_id]


def _serialize(upload: Upload) -> responses.UploadSummary:
    return serialize_upload(upload, get_services().settings.retention_days)
