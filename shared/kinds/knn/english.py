"""The English sentences of the kind ``knn``; see `shared.texts`."""

from collections.abc import Mapping
from typing import Final

SENTENCES: Final[Mapping[str, str]] = {
    # The parameters.
    "p-without-minkowski": 'is used by the metric "minkowski" only; leave it out',
    "bhattacharyya-zscore": 'z-scores can be negative, but bhattacharyya treats rows as distributions; choose "none" or "minmax"',
    "train-size-too-large": "leaves no row to predict: the data set has {rows} rows; choose 1 to {max_train_size}",
    "folds-too-many": "is more than the {rows} rows of the data set; choose 2 to {rows}",
    "k-too-large": "is more than the {train_rows} rows of the training part; choose 1 to {train_rows}",
    "bhattacharyya-negative": "bhattacharyya treats rows as distributions, but row {row} has a negative {column!r}; choose another metric",
    "bhattacharyya-zeros": "bhattacharyya treats rows as distributions, but row {row} has only zeros; choose another metric",
    # The table.
    "table-empty": "the file is empty; upload a table with one row per sample",
    "table-blank-line": "line {line} is blank, but rows follow; delete the line",
    "table-too-many-rows": "the table has more than {max_rows} rows; upload fewer",
    "table-too-many-columns": "the table has {columns} columns, more than {max_columns}; upload fewer",
    "table-uneven": "line {line} has {cells} cells, but line 1 has {width}; make them equal",
    "table-file-gone": "the file no longer exists; upload it again",
    "table-not-csv": "line {line} is not CSV: {error}",
    "table-one-column": "the table has one column, but needs a label and at least one attribute, separated by commas",
    "table-not-utf8": "the file is not UTF-8 text (byte {position}); save it as CSV in UTF-8",
    "table-binary": "the file is binary, not a table; upload comma-separated text",
    "table-without-rows": "the file has a header but no rows; add rows",
    "cell-not-a-number": "line {line}, column {column!r}: {cell!r} is not a finite number; correct the file",
    # The label.
    "label-index-unknown": "there is no column {label}; the columns are 0 to {last}",
    "label-needs-index": "the file has no header, so give the index of the column, 0 to {last}",
    "label-unknown": "there is no column {label!r}; the columns are {columns}",
    "label-ambiguous": "{count} columns have the name {label!r}; give the index instead",
    "label-missing": "line {line} has no label; add it",
    "label-one-class": "every row has the label {label!r}; classification needs at least two classes",
    "label-too-many-classes": 'The label column has {classes} different values, more than {max_classes}. Choose another label column, or the task "regression".',
    # The computation.
    "bhattacharyya-scaled-rows": 'Bhattacharyya treats rows as distributions, but after scaling, which is fitted on the training part alone, a row has a negative value or only zeros. Choose "none" for normalise, or another metric.',
    "values-too-large": "The table has values beyond {max_value:g}, whose squares exceed the range of float64. Rescale them.",
    "powers-too-large": "Differences of {difference:.3g} raised to the power {p:g} exceed the range of float64. Normalise the attributes, or choose a smaller p.",
}
"""The sentences, keyed by code."""

TITLES: Final[Mapping[str, str]] = {
    "dataset-invalid": "The data set does not fit the job",
    "negative-values": "A row is not a distribution",
    "too-many-classes": "The label has too many values",
    "values-too-large": "The values are too large",
}
"""The titles of errors, keyed by the type of error."""
