"""The API's description of itself, for programs and for people."""

from flask import current_app, render_template, request

from web.api import blueprint
from web.context import get_context
from web.openapi.document import build_document
from web.openapi.operation import Node


@blueprint.get("/openapi.json")
def show_description() -> Node:
    """Describe the API in OpenAPI 3.1."""
    return _get_document()


@blueprint.get("/docs")
def show_docs() -> str:
    """Show the description of the API as a page."""
    return render_template("api/docs.html", document=_get_document())


def _get_document() -> Node:
    context = get_context()
    if context.api_document is None:
        context.api_document = build_document(current_app)
    return context.api_document | {"servers": [{"url": request.script_root or "/"}]}
