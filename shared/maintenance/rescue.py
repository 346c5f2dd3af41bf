"""Rescues jobs whose deadline has passed, or whose worker, device class or wake-up message was lost."""

import logging
from typing import Final

from sqlalchemy import delete, func, select, update

from shared.broker import MAX_PENDING_WAKEUPS
from shared.database import transitions, worker_queries
from shared.database.connection import now
from shared.database.tables import Job, Worker
from shared.jobs import AUTO, STATE_PHRASES, DeviceClass, Kind, State
from shared.maintenance.clock import correct_times
from shared.services import Services

WORKER_RETENTION_S: Final = 600.0
"""How long a worker remains registered after its last heartbeat."""

logger = logging.getLogger(__name__)


def rescue_jobs(services: Services) -> None:
    """Correct times; expire, recover and reroute jobs; remove silent workers; and wake the others, once."""
    settings, database = services.settings, services.database
    correct_times(services)
    for job in transitions.expire_queued(database):
        logger.info("job %s reached its time limit in the queue", job.id)
    for job in transitions.recover_expired(database, settings.retry_delay):
        phrase = STATE_PHRASES[job.state]
        logger.warning("job %s lost its worker in attempt %d and %s", job.id, job.attempt, phrase)
    _delete_silent_workers(services)
    _reroute_jobs(services)
    _wake_workers(services)


def _delete_silent_workers(services: Services) -> None:
    with services.database.writing() as session:
        session.execute(delete(Worker).where(Worker.beat_at < now(-WORKER_RETENTION_S)))


def _reroute_jobs(services: Services) -> None:
    """Move queued ``auto`` jobs to the best device class with a live worker.

    The device class that was chosen earlier for a job may no longer have a live worker, or a better class may have a
    live worker now.
    """
    with services.database.reading() as session:
        best_devices = {kind: worker_queries.choose_device(session, kind) for kind in Kind}
    for kind, device in best_devices.items():
        if device is None:
            continue
        reroute = (
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
            session.execute(reroute, execution_options={"synchronize_session": False})


def _wake_workers(services: Services) -> None:
    """Send the wake-up messages that are missing for jobs that have been queued for a while."""
    services.broker.repair()
    waiting = (
        select(Job.kind, Job.device, func.count(), func.min(Job.id))
        .where(
            Job.state == State.QUEUED,
            Job.kind.in_([*Kind]),  # a job of an unknown kind waits for a version of the service that knows the kind
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
            logger.info("waking workers for %s on %s, %d times", *queue, missing)
        for _ in range(missing):
            if not services.broker.wake(*queue, oldest):
                return
