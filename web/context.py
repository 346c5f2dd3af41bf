"""What a view has at hand."""

from typing import cast

from flask import current_app

from shared.services import Services


def get_services() -> Services:
    """Return the application's services."""
    return cast("Services", current_app.extensions["mindjobs"])
