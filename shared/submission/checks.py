"""Finds the errors of a submission that would otherwise appear when the job runs; a job with such errors is refused."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from sqlalchemy.orm import Session

from shared.database import inspections, queries, worker_queries
from shared.database.tables import Upload
from shared.disk_space import require_free_space
from shared.errors import LimitError, Problem, RequestInvalidError, UploadPendingError
from shared.files.file_store import FileStore
from shared.ids import is_id
from shared.inspection.upload_kinds import InspectionState, UploadKind
from shared.jobs import AUTO, DeviceClass
from shared.kinds import KINDS
from shared.schemas.submission import ParsedSubmission
from shared.services import Services
from shared.settings import Settings
from shared.texts import Text, text
from shared.webhooks import target
from shared.webhooks.host_lookup import HostLookups

LOOKUPS: Final = HostLookups(timeout_s=1.0, max_running=8)
"""Looks up the hosts of webhooks. If the resolver hangs, at most 8 requests of a process wait for it, each for 1 s."""
PRECISION: Final = "/params/precision"
"""The JSON pointer of the precision; the field has the same name in every kind that has a choice of precisions."""

_OF_OTHER_KIND: Final = {UploadKind.TABLE: "upload-not-table", UploadKind.AUDIO: "upload-not-audio"}
"""What is said of an upload that is not of the kind that the jobs read."""
_DESCRIPTIONS: Final = {UploadKind.TABLE: "upload-is-text"}
"""What is said of an upload of this kind where another kind is needed."""


def check_submission(services: Services, parsed: ParsedSubmission, owner: str) -> ParsedSubmission:
    """Check what the schema alone cannot decide: limits, uploads, workers, the webhook, and the content of files.

    Returns
    -------
    The submission with the parameters that the job gets: what they left open is filled in.

    Raises
    ------
    RequestInvalidError
        The job cannot succeed.
    UploadPendingError
        An upload is not inspected yet. Its inspection is now the next of this owner.
    LimitError
        The owner has too many queued jobs.
    DiskFullError
        There is too little free space for the files of a job.
    """
    spec, settings = KINDS[parsed.submission.kind], services.settings
    require_free_space(settings, services.files)
    upload_ids = spec.list_uploads(parsed.params)
    with services.database.reading() as session:
        _check_limit(session, settings, owner)
        ids = [upload_id for upload_id in upload_ids.values() if is_id(upload_id)]
        uploads = inspections.find_with_facts(session, ids, owner)
        problems = _find_missing_precision(session, parsed)
    problems = [*_find_missing_uploads(services.files, upload_ids, uploads), *problems]
    if problems:
        raise RequestInvalidError(problems)
    if parsed.submission.webhook is not None:
        _check_webhook(parsed.submission.webhook.url, settings)
    facts: dict[str, Mapping[str, Any]] = {}
    if spec.reads is not None:
        facts = get_facts(services, upload_ids, uploads, spec.reads, spec.list_read_options(parsed.params))
    resolved = replace(parsed, params=spec.resolve(parsed.params, facts, settings))
    _check_amount(services, resolved, owner)
    return resolved


def get_facts(
    services: Services,
    upload_ids: Mapping[str, str],
    uploads: Mapping[str, Upload],
    kind: UploadKind,
    options: Mapping[str, Mapping[str, Any]],
) -> dict[str, Mapping[str, Any]]:
    """Return what the inspections have found in the uploads that a submission names, keyed by upload id.

    Parameters
    ----------
    upload_ids
        The ids of the uploads, keyed by the JSON pointer of the parameter that names the upload.
    uploads
        The rows of these uploads with their facts, keyed by id.
    kind
        The kind that the uploads must have.
    options
        How the uploads are read, keyed by id; see `KindSpec.list_read_options`.

    Raises
    ------
    RequestInvalidError
        An upload is unreadable, or of another kind.
    UploadPendingError
        An upload is not inspected yet, or was inspected with other options.
    """
    problems: list[Problem] = []
    pending: set[str] = set()
    facts: dict[str, Mapping[str, Any]] = {}
    for pointer, upload_id in upload_ids.items():
        upload = uploads[upload_id]
        if upload.kind != kind:
            description = text(_DESCRIPTIONS.get(UploadKind(upload.kind), "upload-is-unknown"))
            problems.append(Problem(pointer, Text(_OF_OTHER_KIND[kind], details=(description,))))
        elif not _is_inspected(upload, options.get(upload_id, {})):
            pending.add(upload_id)
        elif upload.problem is not None:
            problems.append(Problem(pointer, Text.parse(upload.problem)))
        else:
            facts[upload_id] = upload.facts or {}
    if problems:
        raise RequestInvalidError(problems)
    if pending:
        for upload_id in pending:
            inspections.request(services.database, upload_id, options.get(upload_id, {}))
        services.broker.wake_inspector()
        raise UploadPendingError(pending)
    return facts


def _is_inspected(upload: Upload, options: Mapping[str, Any]) -> bool:
    """Return whether what was found in an upload is what is in it if it is read with these options.

    That is so if it was read with these options, or if the same was detected.
    """
    if upload.inspection_state == InspectionState.PENDING:
        return False
    detected = upload.inspection_options == inspections.format_options({}) and upload.facts is not None
    return upload.inspection_options == inspections.format_options(options) or (
        detected and all((upload.facts or {}).get(name) == value for name, value in options.items())
    )


def _check_webhook(url: str, settings: Settings) -> None:
    """Refuse a webhook that cannot be called. A host whose lookup takes long is checked only before each delivery."""
    with suppress(TimeoutError):
        target.resolve_target(url, private=settings.allow_private_webhooks, look_up=LOOKUPS.look_up)


def _check_limit(session: Session, settings: Settings, owner: str) -> None:
    if owner and queries.count_queued(session, owner) >= settings.max_queued_jobs:
        raise LimitError(text("queue-limit", max_jobs=settings.max_queued_jobs))


def _check_amount(services: Services, parsed: ParsedSubmission, owner: str) -> None:
    """Refuse a job if the jobs of its owner would compute too much together."""
    kind = parsed.submission.kind
    limit = KINDS[kind].owner_limit
    if limit is None:
        return
    amount, max_amount = limit.measure(parsed.params), limit.read_max(services.settings)
    with services.database.reading() as session:
        unended = queries.sum_unended_amounts(session, owner, kind)
    if amount + unended > max_amount:
        problem = text(limit.code, amount=amount, unended=unended, max_amount=max_amount)
        raise RequestInvalidError.at(limit.find_pointer(parsed.params), problem)


def _find_missing_uploads(
    files: FileStore, upload_ids: Mapping[str, str], uploads: Mapping[str, Upload]
) -> Iterator[Problem]:
    for pointer, upload_id in upload_ids.items():
        if upload_id not in uploads:
            yield Problem(pointer, text("upload-not-found", upload=upload_id))
        elif files.stat(uploads[upload_id].key) is None:
            yield Problem(pointer, text("upload-file-missing"))


def _find_missing_precision(session: Session, parsed: ParsedSubmission) -> list[Problem]:
    """Return a problem if no live worker offers the requested precision.

    If the precisions that the live workers offer are not known, as before the first worker has started, those decide
    that the kind can have on the requested device class at all.
    """
    submission = parsed.submission
    spec = KINDS[submission.kind]
    precision = spec.wanted_precision(parsed.params)
    if precision is None:
        return []
    code = "precision-not-offered"
    offered = worker_queries.list_offered_precisions(session, submission.kind, submission.device)
    if offered is None:
        classes = [submission.device] if submission.device != AUTO else [*DeviceClass]
        offered = sorted({each for name in classes for each in spec.precisions.get(DeviceClass(name), ())})
        code = "precision-impossible"
    if precision in offered:
        return []
    values = {"precision": precision, "device": submission.device, "offered": ", ".join(offered)}
    return [Problem(PRECISION, text(code, **values))]
