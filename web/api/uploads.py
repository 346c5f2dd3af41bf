"""Uploads: files that jobs read."""

from uuid import UUID

from flask import request

from shared.database import queries
from shared.database.tables import Upload
from shared.errors import NotFoundError, RequestInvalidError
from shared.schemas import responses
from shared.submission import delete
from shared.texts import text
from web.api import blueprint
from web.auth import get_owner
from web.context import get_services
from web.list_query import read_page_query
from web.serializers import serialize_upload
from web.uploads import MULTIPART_OVERHEAD_BYTES, find_uploads, require_free_bytes, store


@blueprint.post("/uploads")
def store_upload() -> tuple[responses.Upload, int]:
    """Upload a file, as the multipart field ``file`` or as the body itself."""
    services = get_services()
    request.max_content_length = require_free_bytes(services, get_owner()) + MULTIPART_OVERHEAD_BYTES
    if request.mimetype != "multipart/form-data":
        return _serialize(store(services, request.stream, None, get_owner())), 201
    files = request.files.getlist("file")
    if len(files) != 1 or len(list(request.files.values())) != 1:
        raise RequestInvalidError.at("/file", text("one-file-expected", count=len(files)))
    return _serialize(store(services, files[0].stream, files[0].filename, get_owner())), 201


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
def get_upload(upload_id: UUID) -> responses.Upload:
    """Read what is known about an upload."""
    uploads = find_uploads(get_services(), [str(upload_id)], get_owner())
    if not uploads:
        raise NotFoundError(text("uploaded-file-not-found", upload=str(upload_id)))
    return _serialize(uploads[0])


@blueprint.delete("/uploads/<uuid:upload_id>")
def delete_upload(upload_id: UUID) -> tuple[str, int]:
    """Delete an upload that no queued or running job needs."""
    delete.delete_upload(get_services(), str(upload_id), get_owner())
    return "", 204


def _serialize(upload: Upload) -> responses.Upload:
    return serialize_upload(upload, get_services().settings.retention_days)
