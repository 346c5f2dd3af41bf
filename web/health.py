"""Whether the service is alive, and whether it is ready."""

import logging
from typing import Literal

from flask import Blueprint
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.schemas import responses
from web.context import get_services

blueprint = Blueprint("health", __name__)
logger = logging.getLogger(__name__)


@blueprint.get("/healthz")
def alive() -> responses.Liveness:
    """Answer as long as this process does."""
    return {"status": "alive"}


@blueprint.get("/readyz")
def ready() -> tuple[responses.Readiness, int]:
    """Answer 200 when database and broker are reachable, or 503 naming what is not."""
    services = get_services()
    missing: list[Literal["database", "broker"]] = []
    try:
        with services.database.reading() as session:
            session.execute(text("SELECT 1 FROM jobs LIMIT 1"))
    except SQLAlchemyError as error:
        logger.warning("not ready, the database does not answer: %s", error)
        missing.append("database")
    try:
        services.broker.ping()
    except (RedisError, OSError) as error:
        logger.warning("not ready, the broker does not answer: %s", error)
        missing.append("broker")
    if missing:
        return {"status": "not ready", "unreachable": missing}, 503
    return {"status": "ready"}, 200
