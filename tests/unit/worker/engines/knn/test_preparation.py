"""Which columns and rows of a table are used, what they become, and what is said about it."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_wine

from shared.errors import RequestInvalidError
from shared.kinds.knn.datasets import WINE
from shared.kinds.knn.parameters import KnnParams
from shared.tables.facts import ColumnType
from shared.tables.table import Column, Table
from worker.engines.knn.dataset import Dataset, Encoding
from worker.engines.knn.preparation import Prepared, prepare
from worker.engines.knn.value_order import name_number, sort_texts

NAN = float("nan")


def numbers(name: str, *cells: float, type_: str = "number") -> Column:
    return Column(name, ColumnType(type_), numbers=np.array(cells, np.float64))


def texts(name: str, *cells: str | None) -> Column:
    return Column(name, ColumnType.TEXT, texts=list(cells))


def make_table(*columns: Column) -> Table:
    count = len(columns[0].numbers if columns[0].numbers is not None else columns[0].texts or ())
    return Table(columns, np.arange(count) * 2 + 3)


def prepare_table(*columns: Column, task: str = "classification", **dataset: Any) -> Prepared:
    params = {"dataset": {"upload": "u", "label": "y"} | dataset, "task": task}
    return prepare(KnnParams.model_validate(params), make_table(*columns), "Table")


def test_wine_equals_the_published_table(wine: Dataset) -> None:
    reference = load_wine()
    np.testing.assert_array_equal(wine.attributes, reference.data)
    np.testing.assert_array_equal(wine.labels, reference.target)
    assert wine.columns == list(WINE.columns)
    assert (wine.classes, len(wine.labels)) == (list(WINE.classes), WINE.rows)


@pytest.mark.parametrize("label", ["kind", 1, -2])
def test_the_label_is_found_by_name_or_index(label: str | int) -> None:
    dataset = prepare_table(numbers("a", 1, 3), texts("kind", "x", "y"), numbers("b", 2, 4), label=label).dataset
    assert (dataset.columns, dataset.classes) == (["a", "b"], ["x", "y"])
    np.testing.assert_array_equal(dataset.attributes, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(dataset.labels, [0, 1])


def test_the_reason_for_which_an_inspection_leaves_a_column_out_is_said() -> None:
    prepared = prepare_table(
        LABEL,
        numbers("rows", 0, 1, 2, 3, 4, type_="integer"),
        numbers("index", 9, 4, 7, 3, 5, type_="integer"),
        texts("names", *"abcde"),
        numbers("same", 1, 1, NAN, 1, 1),
        numbers("measured", 1.5, 2, 4, 3, 9),
        numbers("x", 1, 2, 3, 4, 5),
        exclude=["rows", "index", "names", "same", "measured"],
    )
    reasons = {column["column"]: column["reason"] for column in prepared.report["columns"]}
    assert {name: reason["code"] for name, reason in reasons.items() if reason is not None} == {
        "rows": "row-numbers",
        "index": "unnamed",
        "names": "nearly-unique-text",
        "same": "constant",
        "measured": "column-left-out",
    }


LABEL = texts("y", "b", "a", "b", None, "a")


def describe(prepared: Prepared, column: str) -> dict[str, Any]:
    (described,) = [each for each in prepared.report["columns"] if each["column"] == column]
    return {name: value for name, value in described.items() if name not in {"column", "index"}}


def test_a_row_without_a_label_is_dropped_and_counted() -> None:
    prepared = prepare_table(numbers("x", 1, 2, 3, 4, 5), LABEL)
    dataset = prepared.dataset
    assert dataset.classes == ["a", "b"]
    np.testing.assert_array_equal(dataset.labels, [1, 0, 1, 0])
    np.testing.assert_array_equal(dataset.attributes.ravel(), [1, 2, 3, 5])
    np.testing.assert_array_equal(dataset.find_rows(np.arange(4)), [0, 1, 2, 4])
    report = prepared.report
    assert (report["rows"], report["used_rows"], report["dropped_without_label"]) == (5, 4, 1)
    assert describe(prepared, "y")["use"] == "label"


def test_each_type_of_column_becomes_what_the_report_says() -> None:
    prepared = prepare_table(
        LABEL,
        numbers("number", 1.5, NAN, 2, 3, 4),
        Column("boolean", ColumnType.BOOLEAN, numbers=np.array([1, 0, NAN, 1, 1]), words=("no", "yes")),
        numbers("date", 0, 1, 2, 3, 4, type_="date"),
        texts("text", "9", "10", None, "x", "9"),
        numbers("empty", *[NAN] * 5, type_="empty"),
        texts("many", *"abcde"),
    )
    dataset = prepared.dataset
    assert dataset.columns == ["number", "boolean", "date", "text", "many"]
    np.testing.assert_array_equal(dataset.attributes[:, 1], [1, 0, NAN, 1])
    np.testing.assert_array_equal(dataset.attributes[:, 3], [0, 1, NAN, 0])
    assert dataset.coded[3].values == ["9", "10"]
    assert {index: coded.encoding for index, coded in dataset.coded.items()} == {
        1: Encoding.BOOLEAN,
        3: Encoding.ONEHOT,
        4: Encoding.ONEHOT,
    }
    nothing = {"imputed": None, "scaled": False, "values": None, "reason": None}
    assert describe(prepared, "number") == nothing | {
        "type": "number",
        "use": "number",
        "missing": 1,
        "imputed": "median",
    }
    assert describe(prepared, "boolean") == nothing | {
        "type": "boolean",
        "use": "boolean",
        "missing": 1,
        "imputed": "most_frequent",
    }
    assert describe(prepared, "date") == nothing | {"type": "date", "use": "days", "missing": 0}
    assert describe(prepared, "text") == nothing | {
        "type": "text",
        "use": "onehot",
        "missing": 1,
        "imputed": "most_frequent",
        "values": 2,
    }
    empty = describe(prepared, "empty")
    assert (empty["use"], empty["reason"]) == ("left-out", {"code": "column-empty", "values": {}})


@pytest.mark.parametrize(
    ("dataset", "use", "reason"),
    [
        ({"text_columns": "ordinal"}, "ordinal", None),
        ({"text_columns": "drop"}, "left-out", "text-dropped"),
        ({"exclude": ["t"]}, "left-out", "column-left-out"),
        ({"columns": ["x"]}, "left-out", "column-not-chosen"),
    ],
)
def test_the_parameters_decide_about_text(dataset: dict[str, Any], use: str, reason: str | None) -> None:
    prepared = prepare_table(LABEL, numbers("x", 1, 2, 3, 4, 5), texts("t", *"abcab"), **dataset)
    described = describe(prepared, "t")
    assert described["use"] == use
    assert (described["reason"] or {"code": None})["code"] == reason
    assert prepared.dataset.columns == (["x", "t"] if reason is None else ["x"])


@pytest.mark.parametrize(("count", "use"), [(30, "onehot"), (31, "left-out")])
def test_text_with_more_than_30_values_is_left_out(count: int, use: str) -> None:
    cells = [str(number % count) for number in range(62)]
    prepared = prepare_table(texts("y", *"ab" * 31), numbers("x", *range(62)), texts("t", *cells))
    assert describe(prepared, "t")["use"] == use
    ordinal = prepare_table(texts("y", *"ab" * 31), texts("t", *cells), text_columns="ordinal")
    assert describe(ordinal, "t")["use"] == "ordinal"


def test_rows_with_gaps_are_dropped_if_the_parameters_say_so() -> None:
    columns = LABEL, numbers("x", 1, 2, 3, 4, NAN), texts("t", "a", "b", None, "c", "b"), numbers("left", *[NAN] * 5)
    prepared = prepare_table(*columns, missing="drop_rows", exclude=["left"])
    report, dataset = prepared.report, prepared.dataset
    assert (report["used_rows"], report["dropped_without_label"], report["dropped_with_gaps"]) == (2, 1, 2)
    np.testing.assert_array_equal(dataset.find_rows(np.arange(2)), [0, 1])
    assert dataset.coded[1].values == ["a", "b"]
    assert describe(prepared, "x")["imputed"] is None


def test_an_attribute_without_values_in_the_rows_that_are_left_is_left_out() -> None:
    prepared = prepare_table(LABEL, numbers("x", 1, 2, 3, 4, 5), numbers("z", NAN, NAN, NAN, 4, NAN))
    assert prepared.dataset.columns == ["x"]
    assert describe(prepared, "z")["reason"] == {"code": "column-empty", "values": {}}


@pytest.mark.parametrize(
    ("columns", "dataset", "pointer", "code", "values"),
    [
        (
            (numbers("x", NAN, 2, NAN, NAN, 5),),
            {"missing": "refuse"},
            "/missing",
            "lines-with-gaps",
            {"lines": "3, 7", "count": 2},
        ),
        ((texts("t", *"abcde"),), {"text_columns": "refuse"}, "/text_columns", "columns-of-text", {"columns": "'t'"}),
        ((texts("t", *"abcde"),), {"text_columns": "drop"}, "", "attributes-missing", {}),
        ((numbers("x", NAN, NAN, NAN, 4, NAN),), {"missing": "drop_rows"}, "/missing", "no-row-left", {}),
        ((numbers("x", 1, NAN, 3, 4, NAN),), {"missing": "drop_rows"}, "/label", "label-one-class", {"label": "b"}),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    columns: tuple[Column, ...], dataset: dict[str, Any], pointer: str, code: str, values: dict[str, Any]
) -> None:
    with pytest.raises(RequestInvalidError) as refused:
        prepare_table(LABEL, *columns, **dataset)
    (problem,) = refused.value.problems
    assert (problem.pointer, problem.code, problem.text.values) == (f"/params/dataset{pointer}", code, values)


def test_the_labels_of_a_regression_are_numbers() -> None:
    prepared = prepare_table(numbers("y", 1, NAN, 3), numbers("x", 1, 2, 3), task="regression")
    np.testing.assert_array_equal(prepared.dataset.labels, [1, 3])
    with pytest.raises(RequestInvalidError):
        prepare_table(texts("y", "1", "2"), numbers("x", 1, 2), task="regression")


def test_classes_that_are_not_text_have_names() -> None:
    others = numbers("x", 1, 2, 3)
    assert prepare_table(numbers("y", 10, 9, 0.5), others).dataset.classes == ["0.5", "9", "10"]
    assert prepare_table(numbers("y", 10, 9.5, 20, type_="date"), others).dataset.classes == [
        "1970-01-10T12:00:00",
        "1970-01-11",
        "1970-01-21",
    ]
    boolean = Column("y", ColumnType.BOOLEAN, numbers=np.array([1.0, 0, 1]), words=("No", "Yes"))
    dataset = prepare_table(boolean, others).dataset
    assert (dataset.classes, dataset.labels.tolist()) == (["No", "Yes"], [1, 0, 1])


def test_numbers_are_sorted_before_text_and_by_value() -> None:
    mixed = ["b", "10", "9", "1e1", "-inf", "", "é", "a", "9.0", "nan", "-3"]
    expected = ["-3", "9", "9.0", "10", "1e1", "", "-inf", "a", "b", "nan", "é"]
    for _ in range(5):
        mixed = [*mixed[3:], *mixed[:3]]
        assert sort_texts(mixed) == expected


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_the_order_of_classes_is_the_same_in_every_process(seed: str) -> None:
    code = (
        "from worker.engines.knn.value_order import sort_texts; print(sort_texts({'nan', '1', '2', '3', 'inf', 'x'}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
    )
    assert found.stdout == "['1', '2', '3', 'inf', 'nan', 'x']\n"


def test_large_whole_numbers_keep_their_digits() -> None:
    assert name_number(2.0**52, ColumnType.INTEGER) == "4503599627370496"
    assert name_number(1e300, ColumnType.NUMBER) == "1e+300"
