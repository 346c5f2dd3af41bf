"""Adds the roles of API keys, the sessions of browsers, and whether keys are required."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("keys", sa.Column("role", sa.String(length=16), server_default="user", nullable=False))
    op.create_table(
        "sessions",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["keys.id"], name="fk_sessions_owner_keys", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sha256", name="pk_sessions"),
    )
    op.create_table(
        "instance",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("keys_required", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_instance"),
    )
    op.execute("INSERT INTO instance (id, keys_required) SELECT 1, EXISTS (SELECT 1 FROM keys)")


def downgrade() -> None:
    op.drop_table("instance")
    op.drop_table("sessions")
    op.drop_column("keys", "role")
