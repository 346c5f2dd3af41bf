"""The API's description of itself, for programs and for people."""

from flask import current_app, render_template

from web.api import blueprint
from web.openapi.document import build_document
from web.openapi.operation import Node


@blueprint.get("/openapi.json")
def show_description() -> Node:
    """Describe the API in OpenAPI 3.1."""
    return _get_document()


@blueprint.get("/docs")
def show_docs() -> str:
    """Show the description as a page."""
    return render_template("api/docs.html", document=_get_document())


def _get_document() -> Node:
    """Return the document; it is written once, when it is first asked for and all routes are known."""
    if "mindjobs.openapi" not in current_app.extensions:
        current_app.extensions["mindjobs.openapi"] = build_document(current_app)
    document: Node = current_app.extensions["mindjobs.openapi"]
    return document
