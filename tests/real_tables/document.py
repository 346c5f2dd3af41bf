"""The report: every data set with the scores of the service and of scikit-learn."""

from collections.abc import Sequence
from typing import Final

from tests.bench.section import format_table
from tests.real_tables.cases import K
from tests.real_tables.comparison import FOLDS, ORDERS, Comparison

_INTRODUCTION: Final = """# Real tables

`make tables` writes this file. Data sets of packages were uploaded as they are, through the API and through the form,
and evaluated with the label, the task and the columns that the service suggests: z-scores, k = {k}, {folds} stratified
folds (a hold-out for the largest table). For each data set, a pipeline of scikit-learn was written by hand in
`tests/real_tables/cases.py` (`ColumnTransformer`, `SimpleImputer`, `OneHotEncoder`, `StandardScaler`, nearest
neighbours by brute force) and evaluated on the same folds. The figures are percentages: the accuracy of a
classification, R² of a regression. {agreeing} of {count} data sets are within one percentage point.

If many rows are at equal distance, scikit-learn's score depends on the order of the rows. Where it differs from the
service's, the pipeline was run with {orders} random orders of the known rows, too: the lowest and the highest of the
scores are given in brackets, and the service's must be within one point of them.

"""
_COLUMNS: Final = ("data set", "rows", "label", "task", "API", "form", "scikit-learn", "within 1 point")


def format_document(found: Sequence[Comparison]) -> str:
    """Write the report as Markdown."""
    agreeing = sum(one.agrees for one in found)
    introduction = _INTRODUCTION.format(k=K, folds=FOLDS, agreeing=agreeing, count=len(found), orders=ORDERS)
    return introduction + format_table(_COLUMNS, [_format_row(one) for one in found]) + "\n"


def _format_row(one: Comparison) -> tuple[str, ...]:
    return (
        one.case.file,
        "" if one.rows is None else f"{one.rows}",
        "" if one.label is None else f"{one.label}",
        one.case.task,
        _format_score(one.by_api),
        _format_score(one.by_form),
        _format_range(one.by_pipeline),
        one.problem or ("yes" if one.agrees else "no"),
    )


def _format_range(scores: Sequence[float]) -> str:
    first = "".join(map(_format_score, scores[:1]))
    return f"{first} ({_format_score(min(scores))} to {_format_score(max(scores))})" if len(scores) > 1 else first


def _format_score(score: float | None) -> str:
    return "" if score is None else f"{100 * score:.1f}"
