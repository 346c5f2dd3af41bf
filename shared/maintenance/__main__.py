"""Puts right what crashes leave behind: ``python -m shared.maintenance``. Any number may run at once.

Every few seconds it times out, takes jobs from lost workers, rings for queued
jobs whose bell was lost, removes the checkpoints of ended ones, and delivers
what webhooks are to be told. Every hour it forgets what is old.
"""

import logging
import signal
import threading
import time

from redis.exceptions import RedisError
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from shared.broker import MAX_PENDING_WAKEUPS
from shared.database import queries, transitions
from shared.database.connection import now
from shared.database.tables import Job, Worker
from shared.jobs import AUTO, DeviceClass, Kind, State
from shared.logs import set_up_logging
from shared.maintenance import cleanup
from shared.services import Services
from shared.settings import load_settings
from shared.webhooks.deliverer import Deliverer

TIDY_EVERY_S = 3_600.0
FORGET_WORKERS_AFTER_S = 600.0

logger = logging.getLogger(__name__)


def sweep(services: Services) -> None:
    """Look once for late, lost and forgotten jobs."""
    settings, database = services.settings, services.database
    for job in transitions.expire_queued(database):
        logger.info("job %s timed out in the queue", job.id)
    for job in transitions.recover_expired(database, settings.retry_delay):
        logger.warning("job %s lost its worker in attempt %d and is %s", job.id, job.attempt, job.state)
    with database.writing() as session:
        session.execute(delete(Worker).where(Worker.beat_at < now(-FORGET_WORKERS_AFTER_S)))
    _route(services)
    _ring(services)
    cleanup.remove_checkpoints(services)  # last: a storage that fails keeps no job waiting


def _route(services: Services) -> None:
    """Send the waiting ``auto`` jobs to the class that is best now: theirs may have gone, or had none."""
    with services.database.reading() as session:
        best = {kind: queries.choose_device(session, kind) for kind in Kind}
    for kind, device in best.items():
        if device is None:
            continue
        misrouted = (
            update(Job)
            .where(
                Job.state == State.QUEUED,
                Job.kind == kind,
                Job.wanted_device == AUTO,
                Job.device.is_distinct_from(device),
            )
            .values(device=device)
        )
        with services.database.writing() as session:
            session.execute(misrouted, execution_options={"synchronize_session": False})


def _ring(services: Services) -> None:
    """Ring as often as there are jobs that have waited a while and no bell for them."""
    waiting = (
        select(Job.kind, Job.device, func.count(), func.min(Job.id))
        .where(
            Job.state == State.QUEUED,
            Job.device.is_not(None),
            Job.available_at < now(-services.settings.sweep_s / 2),
        )
        .group_by(Job.kind, Job.device)
    )
    with services.database.reading() as session:
        rows = session.execute(waiting).all()
    for kind, device, jobs, oldest in rows:
        queue = (Kind(kind), DeviceClass(device or ""))
        missing = min(jobs, MAX_PENDING_WAKEUPS) - services.broker.count_pending_wakeups(*queue)
        if missing > 0:
            logger.info("ringing %d times for %s on %s", missing, *queue)
        for _ in range(missing):
            if not services.broker.wake(*queue, oldest):
                return


def main() -> None:
    """Sweep until told to stop."""
    settings = load_settings()
    set_up_logging(settings)
    services = Services.open(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # Both may take long, and a lost job should not wait for them.
    for work in (_tidy_for_ever, _deliver_for_ever):
        threading.Thread(target=work, args=(services,), daemon=True).start()
    while not stop.is_set():
        try:
            sweep(services)
        except (SQLAlchemyError, RedisError, OSError) as error:
            logger.warning("sweeping failed, the next round tries again: %s", error)
        stop.wait(settings.sweep_s)
    services.close()


def _tidy_for_ever(services: Services) -> None:
    while True:
        try:
            cleanup.clean_up(services)
        except Exception:  # one bad file or row must not end the sweeping beside it
            logger.exception("tidying failed, the next round tries again")
        time.sleep(TIDY_EVERY_S)


def _deliver_for_ever(services: Services) -> None:
    deliverer = Deliverer(services)
    while True:
        try:
            deliverer.deliver_due()
        except Exception:  # nor may a message that cannot be delivered
            logger.exception("delivering to webhooks failed, the next round tries again")
        time.sleep(services.settings.sweep_s)


if __name__ == "__main__":
    main()
