"""Removes the constraint on the kinds of jobs, and adds the precisions that workers offer.

From this revision on, the kinds are declared only in the code, so that a new kind needs no migration.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op
from alembic.operations.base import BatchOperations
from sqlalchemy.dialects import postgresql

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
# Revision 0001 named the constraint with its prefix (ck_jobs_), and the naming convention added the prefix again.
KIND_CHECK = "ck_jobs_ck_jobs_kind"

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with altered_jobs() as jobs:
        jobs.drop_constraint(op.f(KIND_CHECK), type_="check")
        jobs.alter_column("kind", existing_type=sa.String(16), type_=sa.String(64), existing_nullable=False)
    op.add_column("workers", sa.Column("precisions", JSON, server_default="{}", nullable=False))


def downgrade() -> None:
    op.drop_column("workers", "precisions")
    with altered_jobs() as jobs:
        jobs.alter_column("kind", existing_type=sa.String(64), type_=sa.String(16), existing_nullable=False)
        jobs.create_check_constraint(op.f(KIND_CHECK), "kind IN ('knn', 'musicgen')")


@contextmanager
def altered_jobs() -> Iterator[BatchOperations]:
    """Alter the table of jobs by the operations in the block.

    On SQLite, Alembic alters a table by copying it, and the copy has no indexes over expressions. ``ix_jobs_queue`` is
    such an index, so it is dropped before the table is copied, and created again afterwards.
    """
    is_copied = op.get_bind().dialect.name == "sqlite"
    if is_copied:
        op.drop_index("ix_jobs_queue", "jobs")
    with op.batch_alter_table("jobs") as jobs:
        yield jobs
    if is_copied:
        op.create_index(
            "ix_jobs_queue", "jobs", ["kind", sa.text("priority DESC"), "id"], sqlite_where=sa.text("state = 'queued'")
        )
