"""Adds the kinds of uploads and their inspections.

Earlier uploads get the kind that their media type or name shows. Those that may be tables are inspected in the
background, newest first.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TABLE_NAMES = ("arff", "csv", "gz", "parquet", "tsv", "txt", "xls", "xlsx")
INDEX = "ix_uploads_pending"

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    columns = (
        sa.Column("kind", sa.String(16), server_default="unknown", nullable=False),
        sa.Column("inspection_state", sa.String(16), nullable=True),
        sa.Column("facts", JSON, nullable=True),
        sa.Column("problem", JSON, nullable=True),
        sa.Column("inspection_options", sa.Text(), server_default="{}", nullable=False),
        sa.Column("inspection_attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("inspection_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("inspection_requested_at", sa.DateTime(timezone=True), nullable=True),
    )
    for column in columns:
        op.add_column("uploads", column)
    uploads = sa.table("uploads", *(sa.column(name) for name in ("kind", "inspection_state", "media_type", "filename")))
    named_table = sa.or_(*(sa.func.lower(uploads.c.filename).like(f"%.{name}") for name in TABLE_NAMES))
    is_audio = uploads.c.media_type.like("audio/%")
    is_table = sa.and_(sa.not_(is_audio), sa.or_(uploads.c.media_type == "text/csv", named_table))
    op.execute(uploads.update().where(is_audio).values(kind="audio"))
    op.execute(uploads.update().where(is_table).values(kind="table", inspection_state="pending"))
    pending = sa.text("inspection_state = 'pending'")
    op.create_index(INDEX, "uploads", ["owner", "id"], sqlite_where=pending, postgresql_where=pending)


def downgrade() -> None:
    op.drop_index(INDEX, "uploads")
    for name in ("inspection_requested_at", "inspection_due_at", "inspection_attempt", "inspection_options"):
        op.drop_column("uploads", name)
    for name in ("problem", "facts", "inspection_state", "kind"):
        op.drop_column("uploads", name)
