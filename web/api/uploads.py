"""Uploads: files that jobs read."""

from flask import request

from shared.errors import RequestInvalidError
from shared.schemas import responses
from shared.texts import text
from web.api import blueprint
from web.auth import get_owner
from web.context import get_services
from web.serializers import serialize_upload
from web.uploads import MULTIPART_OVERHEAD_BYTES, require_free_bytes, store


@blueprint.post("/uploads")
def store_upload() -> tuple[responses.Upload, int]:
    """Upload a file, as the multipart field ``file`` or as the body itself."""
    services = get_services()
    request.max_content_length = require_free_bytes(services, get_owner()) + MULTIPART_OVERHEAD_BYTES
    if request.mimetype != "multipart/form-data":
        return serialize_upload(store(services, request.stream, None, get_owner())), 201
    files = request.files.getlist("file")
    if len(files) != 1 or len(list(request.files.values())) != 1:
        raise RequestInvalidError.at("/file", text("one-file-expected", count=len(files)))
    upload = store(services, files[0].stream, files[0].filename, get_owner())
    return serialize_upload(upload), 201
