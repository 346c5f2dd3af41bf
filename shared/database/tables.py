"""The tables. The row of a job in ``jobs`` is the truth about the job; everything else follows from this row."""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.inspection.upload_kinds import UploadKind
from shared.jobs import ANONYMOUS, EventKind, State
from shared.roles import Role

ID_LENGTH: Final = 36  # the length of a UUID in hexadecimal with dashes
NAME_LENGTH: Final = 255
REQUEST_ID_LENGTH: Final = 128
Json = JSON().with_variant(JSONB(), "postgresql")
# SQLite assigns a number to each new row only if the type of the column is INTEGER.
Serial = BigInteger().with_variant(Integer(), "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, stored as TIMESTAMP WITH TIME ZONE, or in UTC if the database does not store time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert a time with any time zone to UTC."""
        if value is None:
            return None
        in_utc = value.astimezone(UTC)
        return in_utc if dialect.name == "postgresql" else in_utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the interface has it
        """Return the time in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The base class of every table; it gives every constraint a name that migrations can refer to."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def _one_of(column: str, values: type[State | EventKind]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _where(condition: str) -> dict[str, Any]:
    """Return the options of a partial index."""
    return {f"{dialect}_where": text(condition) for dialect in ("sqlite", "postgresql")}


class Job(Base):
    """A job. ``attempt`` is its fencing token: what an earlier attempt reports no longer counts."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    owner: Mapped[str] = mapped_column(String(ID_LENGTH), default=ANONYMOUS, server_default=ANONYMOUS)
    """The id of the API key that submitted the job; `ANONYMOUS` if the job was submitted without a key."""
    kind: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), default=State.QUEUED)
    params: Mapped[dict[str, Any]] = mapped_column(Json)
    amount: Mapped[float | None] = mapped_column(Float)
    """How much is computed, in the unit of the kind, for example seconds of music; ``None`` if the kind has no unit."""
    labels: Mapped[dict[str, str]] = mapped_column(Json, default=dict)
    priority: Mapped[int] = mapped_column(Integer)
    wanted_device: Mapped[str] = mapped_column(String(16))
    """The requested device class, or ``auto``."""
    device: Mapped[str | None] = mapped_column(String(16))
    """The device class that runs the job or, while the job is queued, the class whose workers are woken for the job."""
    engine: Mapped[str | None] = mapped_column(String(32))
    worker: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    max_attempts: Mapped[int] = mapped_column(Integer)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    idempotency_key: Mapped[str | None] = mapped_column(String(NAME_LENGTH), unique=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the body of the submission.

    It distinguishes a repeated request from a different request with the same idempotency key.
    """
    retry_of: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    request_id: Mapped[str | None] = mapped_column(String(REQUEST_ID_LENGTH))
    """The id of the request that submitted the job, for the worker's log."""
    webhook: Mapped[dict[str, Any] | None] = mapped_column(Json)

    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    available_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """The time before which no worker may claim the job."""
    deadline_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    progress_stage: Mapped[str | None] = mapped_column(String(32))
    progress_done: Mapped[int] = mapped_column(BigInteger, default=0)
    progress_total: Mapped[int] = mapped_column(BigInteger, default=0)
    progress_unit: Mapped[str | None] = mapped_column(String(32))
    stage_started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the current stage was first reported.

    The speed within the stage is computed from this time and ``stage_started_done``.
    """
    stage_started_done: Mapped[int | None] = mapped_column(BigInteger)
    """The progress at the time ``stage_started_at``; not 0 if an attempt resumes from a checkpoint."""

    result: Mapped[dict[str, Any] | None] = mapped_column(Json)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)

    __table_args__ = (
        _one_of("state", State),
        # A claim reads this index in the order of its columns. The index contains only queued jobs, so the number of
        # ended jobs does not matter.
        Index(
            "ix_jobs_queue",
            "kind",
            text("priority DESC"),
            "id",
            **_where("state = 'queued'"),
        ),
        Index(
            "ix_jobs_lease",
            "lease_until",
            **_where("state = 'running'"),
        ),
        Index(
            "ix_jobs_deadline",
            "deadline_at",
            **_where("state IN ('queued', 'running')"),
        ),
        Index("ix_jobs_finished", "finished_at"),
        # The following indexes serve lists of jobs, newest first, with at most one filter. Ids increase with time.
        Index("ix_jobs_state_id", "state", "id"),
        Index("ix_jobs_kind_id", "kind", "id"),
        Index("ix_jobs_device_id", "device", "id"),
        Index("ix_jobs_owner_id", "owner", "id"),
        Index("ix_jobs_owner_state_id", "owner", "state", "id"),
    )


class JobLabel(Base):
    """A label of a job. ``jobs`` contains the labels too; this table is for finding jobs by label, newest first."""

    __tablename__ = "job_labels"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    owner: Mapped[str] = mapped_column(String(ID_LENGTH))
    """The owner of the job. It is part of an index, since an owner may own only few of all jobs that have a label."""
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    value: Mapped[str] = mapped_column(String(NAME_LENGTH))

    __table_args__ = (
        Index("ix_job_labels_name_value_job_id", "name", "value", "job_id"),
        Index("ix_job_labels_owner_name_value_job_id", "owner", "name", "value", "job_id"),
    )


class JobEvent(Base):
    """The record of a change of a job; it is written in the same transaction as the change."""

    __tablename__ = "job_events"

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    kind: Mapped[str] = mapped_column(String(16))
    data: Mapped[dict[str, Any]] = mapped_column(Json)

    __table_args__ = (_one_of("kind", EventKind), Index("ix_job_events_job_id_id", "job_id", "id"))


class Artifact(Base):
    """A file that a job produced. It is recorded when the file is durable, and published when the job succeeds."""

    __tablename__ = "artifacts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    key: Mapped[str] = mapped_column("path", Text)
    """The key of the file in the file store; it is different in each attempt of a job."""
    media_type: Mapped[str] = mapped_column(String(NAME_LENGTH))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))


class Upload(Base):
    """A file that a client uploaded."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    owner: Mapped[str] = mapped_column(String(ID_LENGTH), default=ANONYMOUS, server_default=ANONYMOUS)
    key: Mapped[str] = mapped_column("path", Text)
    """The key of the file in the file store."""
    filename: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    """The name that the client gave the file. It is shown to people and never used as a path."""
    media_type: Mapped[str] = mapped_column(String(NAME_LENGTH))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    kind: Mapped[str] = mapped_column(String(16), default=UploadKind.UNKNOWN, server_default=UploadKind.UNKNOWN)
    inspection_state: Mapped[str | None] = mapped_column(String(16))
    """An `InspectionState`; ``None`` if uploads of this kind are not inspected."""
    facts: Mapped[dict[str, Any] | None] = mapped_column(Json, deferred=True)
    """What the inspection found in the file. It can be long, so it is read only if a query asks for it."""
    problem: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """Why the file is unreadable, as a text with code and values."""
    inspection_options: Mapped[str] = mapped_column(Text, default="{}", server_default="{}")
    """How the file is read, as JSON with sorted keys: what was set by hand; everything else is detected."""
    inspection_attempt: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """The fencing token of the inspection, as in a job."""
    inspection_due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """The end of the lease of the inspection that runs, or the time of the next attempt; ``None`` before the first."""
    inspection_requested_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When a submission first waited for the inspection, which is then earlier than those of other uploads."""

    __table_args__ = (
        Index("ix_uploads_created_at", "created_at"),
        Index("ix_uploads_owner", "owner"),
        Index("ix_uploads_pending", "owner", "id", **_where("inspection_state = 'pending'")),
    )


class Key(Base):
    """An API key. Only its hash is stored."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    """The id is also the ``owner`` of the jobs and uploads that are submitted with this key."""
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    sha256: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16), default=Role.USER, server_default=Role.USER)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class BrowserSession(Base):
    """A session of a browser whose user signed in with an API key. Only the hash of its id is stored."""

    __tablename__ = "sessions"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("keys.id", ondelete="CASCADE"))
    """The id of the API key."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Instance(Base):
    """What all processes of this instance must know. The table has exactly one row, which a migration inserted."""

    __tablename__ = "instance"

    id: Mapped[int] = mapped_column(primary_key=True)
    keys_required: Mapped[bool]
    """Whether a key has been created since the service was last open. If so, the service needs keys even while there
    are none."""


class Delivery(Base):
    """A message to a webhook that has not been delivered yet.

    The row is written in the same transaction as the change of the job that the message reports.
    """

    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    owner: Mapped[str] = mapped_column(String(ID_LENGTH))
    """The owner of the job; the secret of this owner signs the message."""
    url: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]] = mapped_column(Json)
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = (
        Index("ix_deliveries_due_at", "due_at"),
        Index("ix_deliveries_url_due_at", "url", "due_at"),
    )


class Worker(Base):
    """A worker registration; the worker counts as live while its last heartbeat is recent."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    device: Mapped[str] = mapped_column(String(16))
    device_index: Mapped[int] = mapped_column(Integer)
    kinds: Mapped[list[str]] = mapped_column(Json)
    engines: Mapped[dict[str, str]] = mapped_column(Json)
    """For each kind, the name of the backend that computes jobs of this kind."""
    precisions: Mapped[dict[str, list[str]]] = mapped_column(Json, default=dict, server_default="{}")
    """For each kind, the precisions that the backend offers, the default first.

    A kind whose jobs cannot choose a precision has no entry.
    """
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    beat_at: Mapped[datetime] = mapped_column(UtcDateTime)
    beat_interval_s: Mapped[float] = mapped_column(Float)
    active_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the worker looked for a job or ran one for the last time; ``None`` for a worker of an earlier version."""
