"""A table of labels, to find jobs by label."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_labels",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("owner", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_labels_job_id_jobs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "name", name="pk_job_labels"),
    )
    split_object = "jsonb_each_text" if op.get_bind().dialect.name == "postgresql" else "json_each"
    op.execute(
        "INSERT INTO job_labels (job_id, owner, name, value) "  # noqa: S608 - fixed names
        f"SELECT jobs.id, jobs.owner, label.key, label.value FROM jobs, {split_object}(jobs.labels) AS label"
    )
    op.create_index("ix_job_labels_name_value_job_id", "job_labels", ["name", "value", "job_id"])
    op.create_index("ix_job_labels_owner_name_value_job_id", "job_labels", ["owner", "name", "value", "job_id"])


def downgrade() -> None:
    op.drop_table("job_labels")
