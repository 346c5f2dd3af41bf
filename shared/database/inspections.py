"""The inspections of uploads: each is claimed under a lease, like a job, with its attempt as the fencing token.

An upload has no lock while it is inspected. If it is deleted meanwhile, the attempt finds no row, and its outcome is
dropped.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

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


@dataclass(frozen=True)
class Claim:
    """The right to store what an inspection finds, until its lease expires.

    An attempt is distinguished by its number and by the options with which it reads the file.
    """

    upload_id: str
    attempt: int
    options: str

    @classmethod
    def of(cls, upload: Upload) -> Self:
        """Return the claim of an upload that was claimed."""
        return cls(upload.id, upload.inspection_attempt, upload.inspection_options)


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


def delay(database: Database, held: Claim, delay_s: float) -> bool:
    """Extend the lease of an attempt, or give it up: another attempt is due after ``delay_s``.

    Returns
    -------
    Whether the attempt still had the lease. If not, the upload was deleted, or another attempt has begun.
    """
    return _change(database, _update_held(held).values(inspection_due_at=now(delay_s)))


def finish(database: Database, held: Claim, *, facts: Mapping[str, Any] | None, problem: Text | None) -> bool:
    """Store what an attempt found, and return whether it still had the lease."""
    state = InspectionState.READY if problem is None else InspectionState.UNREADABLE
    values = {
        Upload.inspection_state: state,
        Upload.facts: facts,
        Upload.problem: None if problem is None else problem.serialize(),
        Upload.inspection_due_at: None,
    }
    return _change(database, _update_held(held).values(values))


def request(database: Database, upload_id: str, options: Mapping[str, Any]) -> None:
    """Let the inspection that a submission waits for be the next one of the owner.

    If the upload was inspected with other options, it is inspected again. An inspection that is pending is not
    disturbed, even if it has other options: the submission then waits for it, and requests again.
    """
    wanted = format_options(options)
    first = update(Upload).where(_PENDING, Upload.id == upload_id, Upload.inspection_requested_at.is_(None))
    again = update(Upload).where(Upload.id == upload_id, ~_PENDING, Upload.inspection_options != wanted)
    values = {
        Upload.inspection_state: InspectionState.PENDING,
        Upload.inspection_options: wanted,
        Upload.inspection_attempt: 0,
        Upload.inspection_due_at: None,
        Upload.inspection_requested_at: now(),
        Upload.facts: None,
        Upload.problem: None,
    }
    with database.writing() as session:
        session.execute(again.values(values), execution_options=_OPTIONS)
        session.execute(first.values(inspection_requested_at=now()), execution_options=_OPTIONS)


def format_options(options: Mapping[str, Any]) -> str:
    """Format options so that equal options are equal strings."""
    return json.dumps(options, sort_keys=True)


def find_pending(session: Session, upload_ids: Collection[str]) -> set[str]:
    """Return those of the uploads whose inspection is pending."""
    return set(session.scalars(select(Upload.id).where(_PENDING, Upload.id.in_(upload_ids))))


def find_with_facts(session: Session, upload_ids: Collection[str], owner: str) -> dict[str, Upload]:
    """Return an owner's uploads with the given ids, keyed by id, with what their inspections found."""
    if not upload_ids:
        return {}
    found = select(Upload).where(Upload.id.in_(upload_ids), Upload.owner == owner).options(undefer(Upload.facts))
    return {upload.id: upload for upload in session.scalars(found)}


def _update_held(held: Claim) -> Update:
    is_held = (Upload.inspection_attempt == held.attempt, Upload.inspection_options == held.options)
    return update(Upload).where(Upload.id == held.upload_id, *is_held, _PENDING)


def _change(database: Database, statement: Update) -> bool:
    with database.writing() as session:
        return bool(session.execute(statement, execution_options=_OPTIONS).rowcount)  # type: ignore[attr-defined]  # of an UPDATE
