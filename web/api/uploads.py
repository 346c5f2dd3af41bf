"""Uploads: files for jobs to read."""

from flask import request

from shared.errors import RequestInvalidError
from shared.schemas import responses
from web.api import blueprint
from web.auth import get_owner
from web.context import get_services
from web.serializers import serialize_upload
from web.uploads import MULTIPART_BYTES, require_room, store


@blueprint.post("/uploads")
def store_upload() -> tuple[responses.Upload, int]:
    """Store one file: the multipart field ``file``, or the body itself."""
    services = get_services()
    request.max_content_length = require_room(services, get_owner()) + MULTIPART_BYTES
    if request.mimetype != "multipart/form-data":
        return serialize_upload(store(services, request.stream, None, get_owner())), 201
    files = request.files.getlist("file")
    if len(files) != 1 or len(list(request.files.values())) != 1:
        raise RequestInvalidError.at("/file", f"send one file in the field file; there are {len(files)}")
    stored = store(services, files[0].stream, files[0].filename, get_owner())
    return serialize_upload(stored), 201
