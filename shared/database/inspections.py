"""The inspections of uploads: each is claimed under a lease, like a job, with its attempt as the fencing token.

An upload has no lock while it is inspected. If it is deleted meanwhile, the attempt finds no row, and its outcome is
dropped.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Update, bindparam, or_, select, update
from sqlalchemy.orm import Session, undefer

from shared.database.connection import Database, now
from shared.database.tables import Upload
from shared.inspection.upload_kinds import InspectionState
from shared.texts import Text

_PENDING: Final = Upload.inspection_state == InspectionState.PENDING
_DUE: Final = or_(Upload.inspection_due_at.is_(None), Upload.inspection_due_at <= now())
# Built once: it runs every few seconds, and building it takes longer.
_WAITING_OWNERS: Final = (
    select(Upload.owner).where(_PENDING, _DUE, Upload.kind.in_(bindparam("kinds", expanding=True))).distinct()
)
_OPTIONS: Final = {"synchronize_session": False}


def list_waiting_owners(session: Session, kinds: Collection[str]) -> Sequence[str]:
    """List the owners of the uploads of these kinds whose inspection is due."""
    return session.scalars(_WAITING_OWNERS, {"kinds": list(kinds)}).all()


def claim(database: Database, owner: str, kinds: Collection[str], lease_s: float) -> Upload | None:
    """Claim the inspection of an owner's upload of one of these kinds, if one is due.

    The first is one that a submission waits for, and otherwise the newest.
    """
    first = (
        select(Upload.id)
        .where(_PENDING, _DUE, Upload.owner == owner, Upload.kind.in_(kinds))
        .order_by(Upload.inspection_requested_at.is_(None), Upload.inspection_requested_at, Upload.id.desc())
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    claimed = (
        update(Upload)
        .where(Upload.id == first.scalar_subquery(), _PENDING)
        .values(inspection_attempt=Upload.inspection_attempt + 1, inspection_due_at=now(lease_s))
    )
    with database.writing() as session:
        return session.scalars(claimed.returning(Upload), execution_options=_OPTIONS).one_or_none()


def delay(database: Database, upload_id: str, attempt: int, delay_s: float) -> bool:
    """Extend the lease of an attempt, or give it up: another attempt is due after ``delay_s``.

    Returns
    -------
    Whether the attempt still had the lease. If not, the upload was deleted, or another attempt has begun.
    """
    return _change(database, _update_held(upload_id, attempt).values(inspection_due_at=now(delay_s)))


def finish(
    database: Database, upload_id: str, attempt: int, *, facts: Mapping[str, Any] | None, problem: Text | None
) -> bool:
    """Store what an attempt found, and return whether it still had the lease."""
    state = InspectionState.READY if problem is None else InspectionState.UNREADABLE
    values = {
        Upload.inspection_state: state,
        Upload.facts: facts,
        Upload.problem: None if problem is None else problem.serialize(),
        Upload.inspection_due_at: None,
    }
    return _change(database, _update_held(upload_id, attempt).values(values))


def request(database: Database, upload_ids: Collection[str]) -> None:
    """Let the inspections that a submission waits for be the next ones of their owner."""
    first = (_PENDING, Upload.id.in_(upload_ids), Upload.inspection_requested_at.is_(None))
    _change(database, update(Upload).where(*first).values(inspection_requested_at=now()))


def find_pending(session: Session, upload_ids: Collection[str]) -> set[str]:
    """Return those of the uploads whose inspection is pending."""
    return set(session.scalars(select(Upload.id).where(_PENDING, Upload.id.in_(upload_ids))))


def find_with_facts(session: Session, upload_ids: Collection[str], owner: str) -> dict[str, Upload]:
    """Return an owner's uploads with the given ids, keyed by id, with what their inspections found."""
    if not upload_ids:
        return {}
    found = select(Upload).where(Upload.id.in_(upload_ids), Upload.owner == owner).options(undefer(Upload.facts))
    return {upload.id: upload for upload in session.scalars(found)}


def _update_held(upload_id: str, attempt: int) -> Update:
    return update(Upload).where(Upload.id == upload_id, Upload.inspection_attempt == attempt, _PENDING)


def _change(database: Database, statement: Update) -> bool:
    with database.writing() as session:
        return bool(session.execute(statement, execution_options=_OPTIONS).rowcount)  # type: ignore[attr-defined]  # of an UPDATE
