"""Corrects the times that lie too far in the future because the clock of the database was set back.

Otherwise, a job that waits until a time would wait for as long as the clock was set back, and a lost worker would count
as live for as long.
"""

import logging
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from shared.database.connection import now
from shared.database.tables import Delivery, Job, Upload, Worker
from shared.inspection import runner
from shared.jobs import State
from shared.retry_delay import RetryDelay
from shared.services import Services
from shared.webhooks import deliverer

logger = logging.getLogger(__name__)


def correct_times(services: Services) -> None:
    """Limit each time to the longest delay with which it can have been set, once."""
    settings = services.settings
    with services.database.writing() as session:
        corrected = _limit_delays(
            session, Job.available_at, Job.attempt, settings.disk_full_delay, 0.0, Job.state == State.QUEUED
        )
        corrected += _limit_delays(session, Delivery.due_at, Delivery.attempt, deliverer.DELAY, deliverer.LEASE_S)
        # A lease may have been extended by a worker with a longer one, so a lease of twice the time is left alone.
        is_leased = Job.state == State.RUNNING
        corrected += _limit(session, Job.lease_until, 2 * settings.lease_s, settings.lease_s, is_leased)
        corrected += _limit_delays(
            session, Upload.inspection_due_at, Upload.inspection_attempt, runner.DELAY, runner.LEASE_S
        )
        corrected += _limit(session, Worker.beat_at, settings.worker_heartbeat_s, 0.0)
    if corrected:
        logger.warning(
            "the clock of the database was set back: %d times lay in the future and are corrected", corrected
        )


def _limit_delays(
    session: Session,
    column: InstrumentedAttribute[Any],
    attempts: InstrumentedAttribute[int],
    delay: RetryDelay,
    min_delay_s: float,
    *conditions: ColumnElement[bool],
) -> int:
    """Limit times that were set with a delay, which depends on the number of attempts and is 0 before the first."""
    found = session.scalars(select(attempts).where(*conditions, column > now()).distinct()).all()
    corrected = 0
    for attempt in found:
        max_s = max(delay.after(attempt), min_delay_s) if attempt else 0.0
        corrected += _limit(session, column, max_s, max_s, *conditions, attempts == attempt)
    return corrected


def _limit(
    session: Session, column: InstrumentedAttribute[Any], max_s: float, new_s: float, *conditions: ColumnElement[bool]
) -> int:
    """Set the times that are more than ``max_s`` in the future to ``new_s`` in the future; return their number."""
    statement = update(column.class_).where(*conditions, column > now(max_s)).values({column: now(new_s)})
    return session.execute(statement, execution_options={"synchronize_session": False}).rowcount  # type: ignore[attr-defined,no-any-return]  # of an UPDATE
