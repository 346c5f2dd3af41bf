"""The HTTP API, version 1."""

from flask import Blueprint

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")

from web.api import catalogue, description, events, jobs, uploads  # noqa: E402, F401 - they add their views to it
