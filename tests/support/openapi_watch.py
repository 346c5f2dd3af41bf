"""Checks that the service sends only responses that its OpenAPI document describes."""

from http import HTTPStatus
from typing import Any

from flask import Flask, Response, request

from web.openapi.document import build_document

_WITHOUT_BODY = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
_OPERATIONS: dict[str, Any] = {}


def watch_responses(app: Flask) -> list[str]:
    """Return a list to which every response that the OpenAPI document does not describe will be added.

    Only responses of operations that are in the document are checked.
    """
    operations = _find_operations(app)
    undescribed: list[str] = []

    @app.after_request
    def check(response: Response) -> Response:
        operation = operations.get((request.endpoint or "").rpartition(".")[2])
        if operation is None or request.method == "OPTIONS" or "pages" in request.blueprints:
            return response
        described = operation["responses"].get(str(response.status_code))
        accepted = {"*/*", response.mimetype, response.content_type}
        if described is None:
            undescribed.append(f"{request.method} {request.path}: {response.status}")
        elif response.status_code not in _WITHOUT_BODY and not accepted & set(described.get("content", ())):
            undescribed.append(f"{request.method} {request.path}: {response.status} {response.content_type}")
        return response

    return undescribed


def _find_operations(app: Flask) -> dict[str, Any]:
    """Return every operation, keyed by its id; the operations are the same in all applications."""
    if not _OPERATIONS:
        for methods in build_document(app)["paths"].values():
            _OPERATIONS.update({operation["operationId"]: operation for operation in methods.values()})
    return _OPERATIONS
