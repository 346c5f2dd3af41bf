"""The HTTP API, version 1."""

from flask import Blueprint

from web.kinds import PAGES

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")
kind_blueprints = [pages.api.views for pages in PAGES.values() if pages.api is not None]
"""The blueprints of the calls that belong to one kind of job only, one blueprint per kind."""

from web.api import description, devices, events, jobs, uploads  # noqa: E402, F401 - add views to the blueprint

for _views in kind_blueprints:
    blueprint.register_blueprint(_views)
