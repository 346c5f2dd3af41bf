"""Turns a request into a queued job: checks the request, inserts the row of the job, and wakes a worker."""

import hashlib
import json
from dataclasses import dataclass
from typing import Final, Self

from shared.database import transitions, worker_queries
from shared.database.connection import Database
from shared.database.tables import Job
from shared.ids import make_id
from shared.jobs import ANONYMOUS, AUTO, DeviceClass, Kind, Origin
from shared.kinds import KINDS
from shared.schemas.submission import ParsedSubmission, parse_submission
from shared.services import Services
from shared.submission.checks import check_submission

ANONYMOUS_ORIGIN: Final = Origin()


@dataclass(frozen=True)
class RequestIdentity:
    """What distinguishes a repeated request from another one.

    Parameters
    ----------
    idempotency_key
        The key of the request, made unique to the owner, so that two owners may use the same key; ``None`` if the
        request has no key.
    sha256
        The SHA-256 of what was requested.
    """

    idempotency_key: str | None
    sha256: str

    @classmethod
    def make(cls, requested: object, origin: Origin, idempotency_key: str | None) -> Self:
        """Make the identity of a request. ``requested`` is the body, or another JSON document that describes it."""
        if idempotency_key is not None and origin.owner != ANONYMOUS:
            idempotency_key = hashlib.sha256(f"{origin.owner} {idempotency_key}".encode()).hexdigest()
        sha256 = hashlib.sha256(json.dumps(requested, sort_keys=True).encode()).hexdigest()
        return cls(idempotency_key, sha256)

    def find_job(self, database: Database) -> Job | None:
        """Return the job that an earlier, equal request created, or ``None``.

        Raises
        ------
        IdempotencyError
            An earlier request had the same idempotency key, but was another one.
        """
        return transitions.find_by_idempotency_key(database, self.idempotency_key, self.sha256)


def submit_job(
    services: Services, body: object, idempotency_key: str | None = None, origin: Origin = ANONYMOUS_ORIGIN
) -> tuple[Job, bool]:
    """Queue a job; if an error is raised, nothing is queued.

    Parameters
    ----------
    body
        The JSON document of the request, or the document that was built from a form.
    idempotency_key
        Several requests with the same key and body create only one job.
    origin
        The owner of the new job, and the id of the request.

    Returns
    -------
    job, created
        The job, and whether this call created it.

    Raises
    ------
    RequestInvalidError
        The body is not valid, or the job cannot succeed.
    UploadPendingError
        An upload that the job names is not inspected yet.
    IdempotencyError
        An earlier request had the same idempotency key and another body.
    LimitError
        The owner has too many queued jobs.
    """
    parsed = parse_submission(body, services.settings.max_timeout_s)
    identity = RequestIdentity.make(body, origin, idempotency_key)
    earlier = identity.find_job(services.database)
    if earlier is not None:
        return earlier, False
    return check_and_queue(services, parsed, identity, origin)


def check_and_queue(
    services: Services,
    parsed: ParsedSubmission,
    identity: RequestIdentity,
    origin: Origin,
    *,
    retry_of: str | None = None,
) -> tuple[Job, bool]:
    """Queue a job whose body has been parsed; if an error is raised, nothing is queued.

    Parameters
    ----------
    retry_of
        The id of the ended job that is submitted again; ``None`` for a new submission.

    Returns
    -------
    job, created
        The job, and whether this call created it.

    Raises
    ------
    RequestInvalidError
        The job cannot succeed.
    UploadPendingError
        An upload that the job names is not inspected yet.
    IdempotencyError
        An earlier request had the same idempotency key, but was another one.
    LimitError
        The owner has too many queued jobs.
    """
    parsed = check_submission(services, parsed, origin.owner)
    submission = parsed.submission
    spec = KINDS[submission.kind]
    job = Job(
        id=make_id(),
        owner=origin.owner,
        request_id=origin.request_id,
        webhook=None if submission.webhook is None else submission.webhook.model_dump(mode="json"),
        kind=submission.kind,
        params=parsed.params.model_dump(mode="json"),
        amount=None if spec.owner_limit is None else spec.owner_limit.measure(parsed.params),
        labels=submission.labels,
        priority=submission.priority,
        wanted_device=submission.device,
        device=_choose_device(services.database, submission.kind, submission.device),
        max_attempts=submission.max_attempts,
        idempotency_key=identity.idempotency_key,
        request_sha256=identity.sha256,
        retry_of=retry_of,
    )
    timeout_s = submission.timeout_s or services.settings.timeout_s
    upload_ids = spec.list_uploads(parsed.params)
    queued, created = transitions.submit(services.database, job, timeout_s, upload_ids)
    if created and queued.device is not None:
        # Workers are woken after the commit, since a worker may be faster than this process and must find the row.
        services.broker.wake(submission.kind, DeviceClass(queued.device), queued.id)
    return queued, created


def _choose_device(database: Database, kind: Kind, wanted: str) -> DeviceClass | None:
    if wanted != AUTO:
        return DeviceClass(wanted)
    with database.reading() as session:
        return worker_queries.choose_device(session, kind)
