"""From a request to a queued job: schema → row → message."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

from shared.database import queries, transitions
from shared.database.connection import Database
from shared.database.tables import Job
from shared.errors import ConflictError, LimitError, Problem, RequestInvalidError
from shared.ids import is_id, make_id
from shared.jobs import ANONYMOUS, AUTO, ENDED, DeviceClass, Kind, Origin
from shared.kinds import KINDS
from shared.schemas.submission import ParsedSubmission, parse_submission
from shared.services import Services
from shared.texts import text
from shared.webhooks import target

_NOWHERE: Final = Origin()


def submit_job(
    services: Services, body: object, idempotency_key: str | None = None, origin: Origin = _NOWHERE
) -> tuple[Job, bool]:
    """Queue a job.

    Parameters
    ----------
    body
        What the JSON text or the form said.
    idempotency_key
        Makes a repeated request harmless.
    origin
        Whose the job is.

    Returns
    -------
    job, created
        The job, and whether this call made it.

    Raises
    ------
    RequestInvalidError, IdempotencyError, LimitError
        Nothing was queued.
    """
    parsed = parse_submission(body, services.settings.max_timeout_s)
    idempotency_key = _scope(idempotency_key, origin.owner)
    earlier = transitions.find_by_idempotency_key(services.database, idempotency_key, _hash(body))
    if earlier is not None:
        return earlier, False
    _check_inputs(services, parsed, origin.owner)
    return _queue(services, parsed, body, origin, idempotency_key)


def retry_job(
    services: Services, job_id: str, origin: Origin = _NOWHERE, changes: Mapping[str, object] | None = None
) -> Job:
    """Queue a new job with an ended one's parameters.

    Parameters
    ----------
    changes
        The parameters that the new job has otherwise.

    Raises
    ------
    NotFoundError, ConflictError, RequestInvalidError, LimitError
        There is no such job; it has not ended; an upload of it is gone; too many jobs wait.
    """
    with services.database.reading() as session:
        earlier = queries.get_job(session, job_id)
    if earlier.state not in ENDED:
        raise ConflictError(f"Job {job_id} is {earlier.state}; only an ended job can be retried.")
    body = {
        "kind": earlier.kind,
        "params": earlier.params | dict(changes or {}),
        "device": earlier.wanted_device,
        "priority": earlier.priority,
        "timeout_s": round((earlier.deadline_at - earlier.created_at).total_seconds()) or 1,
        "max_attempts": earlier.max_attempts,
        "labels": earlier.labels,
        "webhook": earlier.webhook,
    }
    parsed = parse_submission(body, services.settings.max_timeout_s)
    _check_inputs(services, parsed, origin.owner)
    job, _ = _queue(services, parsed, body, origin, retry_of=job_id)
    return job


def _check_inputs(services: Services, parsed: ParsedSubmission, owner: str) -> None:
    """Refuse now what the engine would refuse later, so that nothing is queued that cannot succeed."""
    spec = KINDS[parsed.submission.kind]
    named = spec.list_uploads(parsed.params)
    with services.database.reading() as session:
        uploads = queries.find_uploads(session, [upload_id for upload_id in named.values() if is_id(upload_id)], owner)
        if owner and queries.count_queued(session, owner) >= services.settings.max_queued_jobs:
            raise LimitError(
                f"As many jobs of this key wait as may, {services.settings.max_queued_jobs}; submit more when some "
                "have begun, or cancel some."
            )
    missing = [
        Problem(pointer, f"there is no upload {upload_id!r}; send the file to POST /api/v1/uploads first")
        for pointer, upload_id in named.items()
        if upload_id not in uploads
    ]
    if missing:
        raise RequestInvalidError(missing)
    webhook = parsed.submission.webhook
    if webhook is not None:
        target.resolve_target(webhook.url, private=services.settings.allow_private_webhooks)
    if spec.check_inputs is not None:
        with ExitStack() as copies:
            try:
                files = {
                    upload.id: copies.enter_context(services.files.local_copy(upload.key))
                    for upload in uploads.values()
                }
            except FileNotFoundError as error:
                raise RequestInvalidError(
                    [
                        Problem(pointer, text("upload-file-missing"))
                        for pointer, upload_id in named.items()
                        if services.files.stat(uploads[upload_id].key) is None
                    ]
                ) from error
            spec.check_inputs(parsed.params, files, services.settings)


def _queue(  # noqa: PLR0913 - what is queued, and all that is known of where it comes from
    services: Services,
    parsed: ParsedSubmission,
    body: object,
    origin: Origin,
    idempotency_key: str | None = None,
    *,
    retry_of: str | None = None,
) -> tuple[Job, bool]:
    submission = parsed.submission
    kind = Kind(submission.kind)
    job = Job(
        id=make_id(),
        owner=origin.owner,
        request_id=origin.request_id,
        webhook=None if submission.webhook is None else submission.webhook.model_dump(mode="json"),
        kind=kind,
        params=parsed.params.model_dump(mode="json"),
        labels=submission.labels,
        priority=submission.priority,
        wanted_device=submission.device,
        device=_choose_device(services.database, kind, submission.device),
        max_attempts=submission.max_attempts,
        idempotency_key=idempotency_key,
        request_sha256=_hash(body),
        retry_of=retry_of,
    )
    written, created = transitions.submit(services.database, job, submission.timeout_s or services.settings.timeout_s)
    if created and written.device is not None:
        # After the commit: a worker that is quicker than we are must find the row.
        services.broker.wake(kind, DeviceClass(written.device), written.id)
    return written, created


def _scope(idempotency_key: str | None, owner: str) -> str | None:
    """Make one owner's idempotency key unlike all others'."""
    if idempotency_key is None or owner == ANONYMOUS:
        return idempotency_key
    return hashlib.sha256(f"{owner} {idempotency_key}".encode()).hexdigest()


def _hash(body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _choose_device(database: Database, kind: Kind, wanted: str) -> DeviceClass | None:
    if wanted != AUTO:
        return DeviceClass(wanted)
    with database.reading() as session:
        return queries.choose_device(session, kind)
