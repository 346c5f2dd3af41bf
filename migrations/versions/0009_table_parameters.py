"""Completes the parameters of stored knn jobs, so that they keep their meaning.

Before this revision, tables were comma-separated numbers in UTF-8, every column but the label was an attribute, rows at
equal distance were ranked by the order of the file, and folds were not stratified. The new parameters have other
defaults, so without this revision a retry of such a job would compute something else.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
JOBS = sa.table("jobs", sa.column("id"), sa.column("kind"), sa.column("params", JSON))
ROWS_AT_ONCE = 1_000
EARLIER = {"task": "classification", "evaluation": {"method": "holdout", "train_size": 128, "seed": 0}}
EARLIER_UPLOAD = {"label": 0, "header": True}
ADDED_UPLOAD: dict[str, Any] = {
    "delimiter": ",",
    "decimal": ".",
    "encoding": "utf-8",
    "sheet": None,
    "columns": None,
    "exclude": [],
    "text_columns": "refuse",
    "missing": "refuse",
}

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    change_params(complete)


def downgrade() -> None:
    change_params(reduce)


def complete(params: dict[str, Any]) -> dict[str, Any]:
    """Add the new parameters, with the values that have the meaning of the earlier version."""
    changed = EARLIER | {"ties": "order"} | params
    if "upload" in changed.get("dataset", {}):
        changed["dataset"] = EARLIER_UPLOAD | ADDED_UPLOAD | changed["dataset"]
    if changed["evaluation"].get("method") != "loo":
        changed["evaluation"] = {"stratify": False} | changed["evaluation"]
    return changed


def reduce(params: dict[str, Any]) -> dict[str, Any]:
    """Remove the new parameters, which the earlier version would refuse."""
    changed = {name: value for name, value in params.items() if name != "ties"}
    if "dataset" in changed:
        changed["dataset"] = {name: value for name, value in changed["dataset"].items() if name not in ADDED_UPLOAD}
    if "evaluation" in changed:
        is_loo = changed["evaluation"].get("method") == "loo"
        added = {"stratify", "seed"} if is_loo else {"stratify"}
        changed["evaluation"] = {name: value for name, value in changed["evaluation"].items() if name not in added}
    return changed


def change_params(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the parameters of all knn jobs, some rows at a time."""
    connection = op.get_bind()
    some = sa.select(JOBS.c.id, JOBS.c.params).where(JOBS.c.kind == "knn").order_by(JOBS.c.id).limit(ROWS_AT_ONCE)
    update = JOBS.update().where(JOBS.c.id == sa.bindparam("job")).values(params=sa.bindparam("changed"))
    last = ""
    while rows := connection.execute(some.where(JOBS.c.id > last)).all():
        connection.execute(update, [{"job": row.id, "changed": change(row.params)} for row in rows])
        last = rows[-1].id
