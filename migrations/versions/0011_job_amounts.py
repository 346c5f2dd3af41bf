"""Adds how much a job computes, such as seconds of music, so that it can be limited for each owner.

Jobs that have not ended are given their amount, since they count for the limit.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
JOBS = sa.table(
    "jobs", sa.column("id"), sa.column("kind"), sa.column("state"), sa.column("params", JSON), sa.column("amount")
)
TOKENS_PER_S = 50

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("amount", sa.Float, nullable=True))
    unended = sa.select(JOBS.c.id, JOBS.c.params).where(
        JOBS.c.kind == "musicgen", JOBS.c.state.in_(["queued", "running"])
    )
    update = JOBS.update().where(JOBS.c.id == sa.bindparam("job")).values(amount=sa.bindparam("counted"))
    connection = op.get_bind()
    amounts = [{"job": row.id, "counted": measure_music(row.params)} for row in connection.execute(unended)]
    if amounts:
        connection.execute(update, amounts)


def downgrade() -> None:
    op.drop_column("jobs", "amount")


def measure_music(params: dict[str, Any]) -> float:
    """Return how many seconds of music a job makes."""
    tokens = params.get("max_new_tokens")
    duration_s = params.get("duration_s") or (tokens / TOKENS_PER_S if tokens else 10.0)
    rows = max(len(params.get("prompts") or []), len(params.get("audio_prompts") or []), 1)
    return float(duration_s * rows * params.get("num_samples", 1))
