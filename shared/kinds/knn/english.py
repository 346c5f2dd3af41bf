"""The English sentences of the kind ``knn``; see `shared.texts`."""

from collections.abc import Mapping
from typing import Final

SENTENCES: Final[Mapping[str, str]] = {
    # The parameters.
    "p-without-minkowski": 'is used by the metric "minkowski" only; leave it out',
    "bhattacharyya-zscore": 'z-scores can be negative, but bhattacharyya treats rows as distributions; choose "none" or "minmax"',
    "train-size-too-small": "leaves no row to learn from: the data set has {rows} rows; choose 1 to {max_train_size}, or a larger share",
    "train-size-too-large": "leaves no row to predict: the data set has {rows} rows; choose 1 to {max_train_size}",
    "folds-too-many": "is more than the {rows} rows of the data set; choose 2 to {rows}",
    "k-too-large": "is more than the {train_rows} rows of the training part; choose 1 to {train_rows}",
    "one-row": "only one row has a label and can be used; at least two are needed",
    "stratify-needs-classes": "is for classification only; choose auto or false",
    "class-too-small": "needs {min_rows} rows of each class, but the class {name!r} has {rows}; choose auto, false or fewer folds",
    "classes-too-small": "needs {min_rows} rows of each class, but some classes have fewer; choose auto, false or fewer folds",
    "bhattacharyya-negative": "bhattacharyya treats rows as distributions, but negative values occur in {columns}; choose another metric, or leave out these columns",
    "bhattacharyya-ordinal": 'bhattacharyya treats rows as distributions, but values of {columns} that the training part does not have become -1; choose another metric, or "onehot" for text_columns',
    "bhattacharyya-zeros": "bhattacharyya treats rows as distributions, but row {row} has only zeros; choose another metric",
    # The table.
    "columns-of-text": "text is refused, but occurs in {columns}; choose onehot, ordinal or drop, or leave out these columns",
    "columns-with-gaps": "missing cells are refused, but occur in {columns}; choose impute or drop_rows, or leave out these columns",
    "lines-with-gaps": "missing cells are refused, but occur in {count} rows (line {lines}); choose impute or drop_rows, or complete the rows",
    "columns-too-large": "has values beyond {max_value:g}, whose squares exceed the range of float64, in {columns}; rescale or leave out these columns",
    "columns-too-wide": "makes a table of {cells} numbers, more than {max_cells}; choose ordinal or drop, or leave out columns of text with many values",
    "no-row-left": "no row is left, since each lacks the label or an attribute; choose impute, or leave out the columns with missing cells",
    "attributes-missing": "no attribute is left: all other columns are empty or left out; choose other columns, or another value for text_columns",
    "fold-without-attributes": "In one of the training parts all attributes are missing in every row. Choose drop_rows for missing, or other columns.",
    # The columns.
    "column-index-unknown": "there is no column {column}; the columns are 0 to {last}",
    "column-unknown": "there is no column {column!r}; the columns are {columns}",
    "column-ambiguous": "{count} columns have the name {column!r}; give the index instead",
    "column-twice": "the column {column!r} is given twice; remove one of both",
    "column-excluded": "the column {column!r} is also in exclude; remove one of both",
    # The label.
    "label-needed": "the column to predict is not clear; name it: {columns}",
    "label-excluded": "the column {column!r} is the label; choose another label, or do not exclude it",
    "label-chosen": "the column {column!r} is the label, so it cannot be an attribute; choose another label, or remove it",
    "label-empty": "the column {label!r} has no values; choose another label",
    "label-not-a-number": "the label {label!r} is text, but regression predicts numbers; choose classification, or another label",
    "label-one-class": "every row has the label {label!r}; classification needs at least two classes",
    "label-too-many-classes": "The label column has {classes} different values, more than {max_classes}. Choose another label column, or the task regression.",
    # Why a column is left out.
    "column-left-out": "left out, as the parameters say",
    "column-not-chosen": "left out: not among the columns that the parameters name",
    "column-empty": "left out: it has no values",
    "text-dropped": "left out: it is text, which the parameters drop",
    "text-too-many-values": "left out: it is text with {values} different values, more than the {max_values} that are one-hot encoded",
    # Warnings.
    "rows-without-label": "{count} rows have no label and were left out.",
    "rows-with-gaps": "{count} rows have missing cells and were left out.",
    "classes-spread": "The classes {classes} have fewer rows than the {min_rows} parts of the evaluation, so that some parts have none of them.",
    "spreads-differ": "The values of {widest!r} are spread {ratio:.0f} times as far as those of {narrowest!r}, and so decide the distance. Consider z-scores (normalise).",
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
