"""The objects that the web application keeps while it runs."""

from dataclasses import dataclass
from typing import Final, cast

from flask import Flask, current_app
from prometheus_client import CollectorRegistry

from shared.services import Services
from web.key_cache import KeyCache
from web.long_poll import LongPollSlots
from web.openapi.operation import Node

EXTENSION: Final = "mindjobs"
"""The key of the context in ``app.extensions``."""


@dataclass
class WebContext:
    """The objects that views use in addition to the request.

    Parameters
    ----------
    services
        Settings, database, files and broker.
    long_poll_slots
        Limits how many requests wait at the same time.
    key_cache
        The API keys, read from the database every few seconds.
    metrics
        The registry of the metrics that ``/metrics`` shows.
    api_document
        The OpenAPI document; ``None`` until the first request that needs it. The document is built at this request
        and not earlier, because all routes must be known.
    """

    services: Services
    long_poll_slots: LongPollSlots
    key_cache: KeyCache
    metrics: CollectorRegistry
    api_document: Node | None = None


def get_context(app: Flask | None = None) -> WebContext:
    """Return the context of an application, by default of the application that handles the current request."""
    return cast("WebContext", (app or current_app).extensions[EXTENSION])


def get_services() -> Services:
    """Return the services of the application that handles the current request."""
    return get_context().services
