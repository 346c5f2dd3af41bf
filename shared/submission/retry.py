"""Submitting an ended job again."""

from collections.abc import Mapping
from typing import Any

from shared.database import queries
from shared.database.tables import Job
from shared.errors import ConflictError, RequestInvalidError
from shared.jobs import ENDED, Kind, Origin
from shared.kinds import KINDS
from shared.schemas.submission import parse_submission
from shared.services import Services
from shared.submission.submit import ANONYMOUS_ORIGIN, RequestIdentity, check_and_queue
from shared.texts import text


def retry_job(  # noqa: PLR0913 - what is retried, for whom, and how
    services: Services,
    job_id: str,
    origin: Origin = ANONYMOUS_ORIGIN,
    changes: Mapping[str, object] | None = None,
    idempotency_key: str | None = None,
    *,
    new_seed: bool = False,
) -> tuple[Job, bool]:
    """Queue a new job with the parameters of an ended job, which computes the same again.

    Parameters
    ----------
    changes
        Parameters that get another value in the new job.
    idempotency_key
        Several requests with the same key, job and changes create only one new job.
    new_seed
        Whether the new job has another seed.

    Returns
    -------
    job, created
        The new job, and whether this call created it.

    Raises
    ------
    NotFoundError
        There is no such job.
    ConflictError
        The job has not ended.
    RequestInvalidError
        The new job cannot succeed, for example because an upload no longer exists, or jobs of the kind have no seed.
    UploadPendingError
        An upload that the job names is not inspected yet.
    IdempotencyError
        An earlier request had the same idempotency key, but was another one.
    LimitError
        The owner has too many queued jobs.
    """
    requested = {"retry_of": job_id, "changes": dict(changes or {})} | ({"new_seed": True} if new_seed else {})
    identity = RequestIdentity.make(requested, origin, idempotency_key)
    earlier = identity.find_job(services.database)
    if earlier is not None:
        return earlier, False
    with services.database.reading() as session:
        ended = queries.get_job(session, job_id)
    if ended.state not in ENDED:
        raise ConflictError(text("retry-unended-job", job=job_id, state=ended.state))
    body = {
        "kind": ended.kind,
        "params": {**_repeat_params(ended, new_seed=new_seed), **(changes or {})},
        "device": ended.wanted_device,
        "priority": ended.priority,
        "timeout_s": round((ended.deadline_at - ended.created_at).total_seconds()) or 1,
        "max_attempts": ended.max_attempts,
        "labels": ended.labels,
        "webhook": ended.webhook,
    }
    parsed = parse_submission(body, services.settings.max_timeout_s)
    return check_and_queue(services, parsed, identity, origin, retry_of=job_id)


def _repeat_params(ended: Job, *, new_seed: bool) -> Mapping[str, Any]:
    """Return the parameters that compute the same as an ended job, or the same with another seed."""
    spec = KINDS[Kind(ended.kind)] if ended.kind in KINDS else None
    if spec is None:  # of another version; the schema refuses the kind
        return ended.params
    params = spec.repeat(ended.params, ended.result)
    if not new_seed:
        return params
    if spec.renew is None:
        raise RequestInvalidError.at("/seed", text("seed-not-in-kind", kind=ended.kind))
    return spec.renew(params)
