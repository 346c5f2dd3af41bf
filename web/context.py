"""What a view has at hand."""

from typing import cast

from flask import current_app

from shared.services import Services
from web.long_poll import LongPollSlots


def get_long_poll_slots() -> LongPollSlots:
    """Return where requests wait for jobs."""
    return cast("LongPollSlots", current_app.extensions["mindjobs.waiting"])


def get_services() -> Services:
    """Return the application's services."""
    return cast("Services", current_app.extensions["mindjobs"])
