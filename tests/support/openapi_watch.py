"""Watches whether the service answers only what its description says."""

from http import HTTPStatus
from typing import Any

from flask import Flask, Response, request

from web.openapi.document import build_document

_WITHOUT_BODY = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
_OPERATIONS: dict[str, Any] = {}


def watch_answers(app: Flask) -> list[str]:
    """Return the answers to described routes that are not described, a list that grows with them."""
    operations = _find_operations(app)
    strange: list[str] = []

    @app.after_request
    def look(response: Response) -> Response:
        operation = operations.get((request.endpoint or "").rpartition(".")[2])
        if operation is None or request.method == "OPTIONS" or request.blueprint == "pages":
            return response
        answer = operation["responses"].get(str(response.status_code))
        known = {"*/*", response.mimetype, response.content_type}
        if answer is None:
            strange.append(f"{request.method} {request.path}: {response.status}")
        elif response.status_code not in _WITHOUT_BODY and not known & set(answer.get("content", ())):
            strange.append(f"{request.method} {request.path}: {response.status} {response.content_type}")
        return response

    return strange


def _find_operations(app: Flask) -> dict[str, Any]:
    """Find every operation by its identifier; every application has the same."""
    if not _OPERATIONS:
        for methods in build_document(app)["paths"].values():
            _OPERATIONS.update({operation["operationId"]: operation for operation in methods.values()})
    return _OPERATIONS
