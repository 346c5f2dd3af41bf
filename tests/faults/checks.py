"""The checks after the last fault of a part: nothing lost, nothing doubled, no file damaged, every process healthy."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Final

from sqlalchemy import func, select

from shared.database import queries
from shared.database.tables import Artifact, Job, JobEvent
from shared.jobs import ENDED, EventKind, State
from tests.faults.record import Record
from tests.faults.site import Site
from tests.support.disks import is_stored
from tests.support.waiting import wait_until

DRAIN_S: Final = 900.0
"""How long the unended jobs may take after the last fault; a job that has found its disk full waits for minutes."""
HEALTH_S: Final = 120.0


def wait_for_all_jobs(site: Site) -> None:
    """Wait until every job has ended, or until nothing more can be expected; `check_jobs` reports what has not."""

    def look() -> bool:
        with site.database.reading() as session:
            unended = select(func.count()).select_from(Job).where(Job.state.not_in(ENDED))
            return session.execute(unended).scalar_one() == 0

    try:
        wait_until(look, "the end of all jobs", DRAIN_S)
    except AssertionError:
        return


def check_jobs(site: Site, acknowledged: Collection[str], record: Record) -> None:
    """Compare what the instance has acknowledged with what its database and its files contain."""
    with site.database.reading() as session:
        jobs = session.scalars(select(Job)).all()
        final = _count_final_events(session.scalars(select(JobEvent).where(JobEvent.kind == EventKind.STATE)).all())
        artifacts = queries.list_artifacts(session, [job.id for job in jobs])
    by_id = {job.id: job for job in jobs}
    record.acknowledged += len(acknowledged)
    record.states += Counter(job.state for job in jobs)
    record.attempts += Counter(str(job.attempt) for job in jobs)
    record.problems += [f"job {job_id} was acknowledged and is lost" for job_id in set(acknowledged) - by_id.keys()]
    record.problems += [
        f"job {job_id} was not acknowledged: a submission was run twice" for job_id in by_id.keys() - set(acknowledged)
    ]
    if len(set(acknowledged)) < len(acknowledged):
        record.problems.append("two submissions were acknowledged with the same job")
    for job in jobs:
        if job.state != State.SUCCEEDED:
            record.problems.append(f"job {job.id} is {job.state} after attempt {job.attempt}: {job.error}")
        if final[job.id] != (job.state in ENDED):
            record.problems.append(f"job {job.id} has {final[job.id]} end events")
        record.problems += _check_files(site, artifacts[job.id])
        record.artifacts += len(artifacts[job.id])


def _count_final_events(events: Sequence[JobEvent]) -> Counter[str]:
    return Counter(event.job_id for event in events if event.data["state"] in ENDED)


def _check_files(site: Site, artifacts: Sequence[Artifact]) -> list[str]:
    return [
        f"the file {artifact.name} of job {artifact.job_id} is missing or damaged"
        for artifact in artifacts
        if not is_stored(site.files, artifact)
    ]


def check_health(site: Site, ask_readiness: Callable[[], object]) -> list[str]:
    """Return what is wrong with the processes.

    Parameters
    ----------
    ask_readiness
        Returns the status and the JSON of ``/readyz``, which must be ready without stalled workers after some time.
    """
    wrong: list[str] = []
    try:
        wait_until(lambda: ask_readiness() == (200, {"status": "ready"}), "readiness", HEALTH_S)
    except AssertionError:
        wrong.append(f"at the end, /readyz answers {ask_readiness()}")
    return [
        *wrong,
        *(f"at the end, {name} does not run" for name in site.list_missing()),
        *(f"at the end, a process is suspended: {command}" for command in site.list_suspended()),
        *(f"at the end, a process of an ended instance runs: {command}" for command in site.list_orphans()),
    ]
