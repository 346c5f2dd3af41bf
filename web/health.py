"""The health checks. ``/healthz`` tests only this process; ``/readyz`` also tests the database and the broker."""

import logging
from typing import Literal

from flask import Blueprint
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.database import queries
from shared.schemas import responses
from web.context import get_services

blueprint = Blueprint("health", __name__)
logger = logging.getLogger(__name__)


@blueprint.get("/healthz")
def alive() -> responses.Liveness:
    """Report that the process answers."""
    return {"status": "alive"}


@blueprint.get("/readyz")
def ready() -> tuple[responses.Readiness, int]:
    """Report whether the database and the broker are reachable, and how many workers take no work."""
    services = get_services()
    unreachable: list[Literal["database", "broker"]] = []
    try:
        with services.database.reading() as session:
            session.execute(text("SELECT 1 FROM jobs LIMIT 1"))
            stalled = queries.list_stalled_workers(session, services.settings.stalled_worker_shown_s)
    except SQLAlchemyError as error:
        logger.warning("not ready: the database does not answer: %s", error)
        unreachable.append("database")
    try:
        services.broker.ping()
    except (RedisError, OSError) as error:
        logger.warning("not ready: the broker does not answer: %s", error)
        unreachable.append("broker")
    if unreachable:
        return {"status": "not ready", "unreachable": unreachable}, 503
    return ({"status": "ready", "stalled_workers": len(stalled)} if stalled else {"status": "ready"}), 200
