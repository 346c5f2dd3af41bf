"""The health checks. ``/healthz`` tests only this process; ``/readyz`` also tests what the process needs."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final, Literal

from flask import Blueprint
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.database import worker_queries
from shared.disk_space import require_free_space
from shared.errors import DiskFullError
from shared.schemas import responses
from shared.services import Services
from web.context import get_services

Part = Literal["database", "broker", "disk"]

ANSWER_TIMEOUT_S: Final = 1.5
"""How long ``/readyz`` waits for the parts that it tests, all at the same time. It answers within 2 s."""

blueprint = Blueprint("health", __name__)
logger = logging.getLogger(__name__)
# While a part does not answer, tests wait for a free thread, and count as not answered.
_threads: Final = ThreadPoolExecutor(8, "readiness")


@blueprint.get("/healthz")
def alive() -> responses.Liveness:
    """Report that the process answers."""
    return {"status": "alive"}


@blueprint.get("/readyz")
def ready() -> tuple[responses.Readiness, int]:
    """Report whether database and broker answer and the disks have space, and how many workers take no work."""
    services = get_services()
    started: dict[Part, Future[int]] = {
        "database": _threads.submit(_count_stalled_workers, services),
        "broker": _threads.submit(_ping_broker, services),
        "disk": _threads.submit(_check_disk, services),
    }
    wait(started.values(), ANSWER_TIMEOUT_S)
    unreachable = [part for part, test in started.items() if not _has_answered(part, test)]
    if unreachable:
        return {"status": "not ready", "unreachable": unreachable}, 503
    stalled = started["database"].result()
    return ({"status": "ready", "stalled_workers": stalled} if stalled else {"status": "ready"}), 200


def _count_stalled_workers(services: Services) -> int:
    with services.database.reading() as session:
        session.execute(text("SELECT 1 FROM jobs LIMIT 1"))
        return len(worker_queries.list_stalled_workers(session, services.settings.stalled_worker_shown_s))


def _ping_broker(services: Services) -> int:
    services.broker.ping()
    return 0


def _check_disk(services: Services) -> int:
    require_free_space(services.settings, services.files)
    return 0


def _has_answered(part: Part, test: Future[int]) -> bool:
    if not test.done():
        logger.warning("not ready: the %s has not answered within %g s", part, ANSWER_TIMEOUT_S)
        test.cancel()
        return False
    error = test.exception()
    if isinstance(error, DiskFullError):
        logger.warning("not ready: %s", error.detail)
        return False
    if isinstance(error, SQLAlchemyError | RedisError | OSError):
        logger.warning("not ready: the %s does not answer: %s", part, error)
        return False
    test.result()  # raises any other error
    return True
