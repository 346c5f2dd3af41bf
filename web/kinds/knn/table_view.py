"""What the form shows of a table: what was detected, the columns, and the first rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from shared.database import inspections
from shared.database.tables import Upload
from shared.errors import RequestInvalidError
from shared.inspection.upload_kinds import UploadKind
from shared.kinds.knn.parameters import Missing, TextColumns
from shared.kinds.knn.resolution import MAX_ONEHOT_VALUES
from shared.services import Services
from shared.submission.checks import get_facts
from shared.tables.facts import PLACES, ColumnFacts, ColumnType, Exclusion, Scatter, TableFacts
from shared.texts import render, text
from web.inspections import hold_inspected

UPLOAD: Final = "/params/dataset/upload"
MAX_SHOWN_COLUMNS: Final = 200
"""The form has a line for each column; of a wider table it shows only the first ones."""
MAX_SHARES: Final = 6
"""How many of the values of a text column have a bar of their own."""
DELIMITERS: Final[Mapping[str, str]] = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe", " ": "blanks"}
DECIMAL_MARKS: Final[Mapping[str, str]] = {".": "point", ",": "comma"}
_PLANS: Final = {
    ColumnType.EMPTY: "left out: empty",
    ColumnType.NUMBER: "number",
    ColumnType.INTEGER: "number",
    ColumnType.BOOLEAN: "0 or 1",
    ColumnType.DATE: "days since 1970",
}
_TEXT_PLANS: Final[Mapping[str, str]] = {
    TextColumns.ORDINAL: "number by alphabetical order",
    TextColumns.DROP: "left out: text",
    TextColumns.REFUSE: "refused: text",
}
_GAP_PLANS: Final[Mapping[str, str]] = {
    Missing.DROP_ROWS: "rows with gaps are left out",
    Missing.REFUSE: "gaps are refused",
}
_FORMATS: Final = {
    "delimited": "text with delimiters",
    "xlsx": "Excel workbook",
    "parquet": "Parquet",
    "arff": "ARFF",
}


@dataclass(frozen=True)
class ColumnView:
    """A column of the table on the form.

    Parameters
    ----------
    index
        The index of the column, which stands for it in the form.
    reason
        Why the column is left out unless the user chooses it; ``None`` if it is used.
    plan
        What the column becomes if it is used as an attribute.
    bars
        The shares of the values, for a small diagram: in bins of equal width, or of the most frequent values. The
        largest is 1.
    """

    index: int
    facts: ColumnFacts
    reason: str | None
    plan: str
    bars: Sequence[float]

    @property
    def examples(self) -> str:
        """The first different cells."""
        return ", ".join(self.facts.examples)


@dataclass(frozen=True)
class ScatterView:
    """Scatter plots of pairs of columns, as a triangle.

    Parameters
    ----------
    names
        The m columns that are drawn.
    rows
        The plots of column 1, of column 2 … (up, on the page) against each column before it (to the right): for each
        plot, the points of each class as an SVG path.
    classes
        The classes by which the points are coloured; empty if they are not.
    """

    names: Sequence[str]
    rows: Sequence[Sequence[Sequence[str]]]
    classes: Sequence[str]

    @classmethod
    def make(cls, scatter: Scatter, columns: Sequence[ColumnFacts]) -> Self:
        """Draw the plots."""
        groups = scatter.groups or [0] * len(scatter.places[0])
        count = max(1, len(scatter.classes))
        rows = [
            [[_make_path(x, y, groups, group) for group in range(count)] for x in scatter.places[:index]]
            for index, y in enumerate(scatter.places)
        ]
        return cls([columns[index].name for index in scatter.columns], rows[1:], scatter.classes)


@dataclass(frozen=True)
class TableView:
    """A table on the form.

    Parameters
    ----------
    detected
        What was detected, as names and values.
    warnings
        What was done that the user may not expect.
    label
        The index of the suggested label, if there is one.
    scatter
        Scatter plots, if there are two columns of numbers.
    unshown
        The columns that are left out by default and have no line on the form.
    """

    facts: TableFacts
    detected: Sequence[tuple[str, str]]
    columns: Sequence[ColumnView]
    warnings: Sequence[str]
    label: int | None
    scatter: ScatterView | None
    unshown: Sequence[Exclusion]

    @classmethod
    def make(cls, facts: TableFacts, text_columns: str, missing: str) -> Self:
        """Prepare what the form shows, if text and missing cells are handled in these ways."""
        suggested = facts.suggested
        reasons = {
            excluded.index: render(text(excluded.reason, column=excluded.column)) for excluded in suggested.exclude
        }
        columns = [
            ColumnView(
                index, column, reasons.get(index), _describe_plan(column, text_columns, missing), _make_bars(column)
            )
            for index, column in enumerate(facts.columns[:MAX_SHOWN_COLUMNS])
        ]
        warnings = [render(warning) for warning in facts.warnings]
        scatter = ScatterView.make(facts.scatter, facts.columns) if facts.scatter else None
        unshown = [excluded for excluded in suggested.exclude if excluded.index >= MAX_SHOWN_COLUMNS]
        return cls(facts, _list_detected(facts), columns, warnings, suggested.label, scatter, unshown)


def find_facts(services: Services, upload: Upload, options: Mapping[str, Any]) -> TableFacts:
    """Return what the inspection found in a table that is read with these options; wait for it for some seconds.

    Raises
    ------
    RequestInvalidError
        The file is no table that can be read.
    UploadPendingError
        The inspection has not ended.
    """

    def find() -> TableFacts:
        with services.database.reading() as session:
            uploads = inspections.find_with_facts(session, [upload.id], upload.owner)
        if upload.id not in uploads:
            raise RequestInvalidError.at(UPLOAD, text("upload-not-found", upload=upload.id))
        facts = get_facts(services, {UPLOAD: upload.id}, uploads, UploadKind.TABLE, {upload.id: options})
        return TableFacts.model_validate(facts[upload.id])

    return hold_inspected(services, find)


def _describe_plan(column: ColumnFacts, text_columns: str, missing: str) -> str:
    plan = _PLANS.get(column.type) or _TEXT_PLANS.get(text_columns, "")
    if column.type is ColumnType.TEXT and text_columns == TextColumns.ONEHOT:
        is_wide = column.distinct > MAX_ONEHOT_VALUES
        plan = f"left out: more than {MAX_ONEHOT_VALUES} values" if is_wide else f"{column.distinct} columns of 0 and 1"
    if not column.missing or column.type is ColumnType.EMPTY or plan.startswith("left out"):
        return plan
    is_coded = column.type in {ColumnType.TEXT, ColumnType.BOOLEAN}
    filled = "gaps: the most frequent value" if is_coded else "gaps: the median"
    return f"{plan}; {filled if missing == Missing.IMPUTE else _GAP_PLANS.get(missing, '')}"


def _list_detected(facts: TableFacts) -> list[tuple[str, str]]:
    named = [
        ("Format", _FORMATS[facts.format] + (", compressed" if facts.compressed else "")),
        ("Sheet", facts.sheet),
        ("Delimiter", DELIMITERS.get(facts.delimiter or "", facts.delimiter)),
        ("Decimal mark", DECIMAL_MARKS.get(facts.decimal or "", facts.decimal)),
        ("Thousands mark", facts.thousands and repr(facts.thousands)),
        ("Encoding", facts.encoding),
        ("Column names", "in the file" if facts.header else "none in the file"),
        ("Skipped", _describe_skipped(facts)),
    ]
    return [(name, value) for name, value in named if value]


def _describe_skipped(facts: TableFacts) -> str:
    counts = {"comment": facts.comment_lines, "blank": facts.blank_lines}
    return ", ".join(f"{count:,} {name} line{'s' if count > 1 else ''}" for name, count in counts.items() if count)


def _make_bars(column: ColumnFacts) -> list[float]:
    counts = column.bins if column.type not in {ColumnType.TEXT, ColumnType.BOOLEAN} else []
    counts = counts or [count for _, count in column.values[:MAX_SHARES]]
    highest = max(counts, default=0)
    return [count / highest for count in counts] if highest else []


def _make_path(x: Sequence[int | None], y: Sequence[int | None], groups: Sequence[int | None], group: int) -> str:
    """Write the points of a group as lines without length, which round caps make visible."""
    points = zip(x, y, groups, strict=True)
    return "".join(
        f"M{right} {PLACES - up}h0"
        for right, up, found in points
        if right is not None and up is not None and found == group
    )
