"""The time at which the current stage of a job started, and the progress of the job at that time."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("stage_started_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("stage_started_done", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "stage_started_done")
    op.drop_column("jobs", "stage_started_at")
