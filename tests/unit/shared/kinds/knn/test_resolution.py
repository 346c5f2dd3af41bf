"""What a submission leaves open is guessed from the facts of the table, and what cannot succeed is refused by them."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from shared.errors import RequestInvalidError
from shared.kinds.knn.datasets import DATA_FOLDER, WINE, load_facts
from shared.kinds.knn.parameters import KnnParams
from shared.kinds.knn.resolution import resolve
from shared.tables.facts import ColumnFacts, ColumnType, Exclusion, Reason, Suggestion, TableFacts, Task

CLASSES = [("a", 40), ("b", 35), ("c", 20)]


def number(name: str, **facts: Any) -> ColumnFacts:
    return ColumnFacts(**{"name": name, "type": "number", "distinct": 80, "missing": 0, "min": -1, "max": 9} | facts)


def words(name: str, **facts: Any) -> ColumnFacts:
    return ColumnFacts(**{"name": name, "type": "text", "distinct": 3, "missing": 0, "values": CLASSES} | facts)


def make_facts(*columns: ColumnFacts, **facts: Any) -> TableFacts:
    """Describe a table of 100 rows; by default with the label ``kind``, of which 5 are missing, and 4 other columns."""
    return TableFacts(
        format=facts.pop("format", "delimited"),
        columns=list(
            columns or [number("id"), number("x", missing=3), words("kind", missing=5), words("colour"), number("y")]
        ),
        rows=100,
        suggested=facts.pop("suggested", Suggestion()),
        **{"delimiter": ";", "decimal": ",", "encoding": "cp1252"} | facts,
    )


def resolve_upload(facts: TableFacts, dataset: dict[str, Any] | None = None, **params: Any) -> KnnParams:
    given = {"dataset": {"upload": "u"} | (dataset or {}), "k": 1, **params}
    return resolve(KnnParams.model_validate(given), facts)


def find_problems(facts: TableFacts, dataset: dict[str, Any] | None = None, **params: Any) -> dict[str, str]:
    with pytest.raises(RequestInvalidError) as refused:
        resolve_upload(facts, dataset, **params)
    for problem in refused.value.problems:
        assert "{" not in problem.detail
        assert problem.detail != problem.code
    return {problem.pointer: problem.code for problem in refused.value.problems}


SUGGESTED = Suggestion(
    label=2, task=Task.CLASSIFICATION, exclude=[Exclusion(column="id", index=0, reason=Reason.ROW_NUMBERS)]
)


def test_what_was_guessed_stands_in_the_parameters() -> None:
    facts = make_facts(suggested=SUGGESTED)
    resolved = resolve_upload(facts).model_dump(mode="json")
    assert resolved["task"] == "classification"
    assert resolved["dataset"] == {
        "upload": "u",
        "label": "kind",
        "header": True,
        "delimiter": ";",
        "decimal": ",",
        "encoding": "cp1252",
        "sheet": None,
        "columns": None,
        "exclude": ["id"],
        "text_columns": "onehot",
        "missing": "impute",
    }
    assert resolve(KnnParams.model_validate(resolved), facts).model_dump(mode="json") == resolved


def test_columns_without_a_unique_name_are_given_by_their_index() -> None:
    exclude = [
        Exclusion(column="x", index=0, reason=Reason.UNNAMED),
        Exclusion(column="", index=1, reason=Reason.EMPTY),
    ]
    facts = make_facts(number("x"), number(""), number("x"), words("x"), suggested=Suggestion(label=3, exclude=exclude))
    dataset = resolve_upload(facts).model_dump()["dataset"]
    assert (dataset["label"], dataset["exclude"]) == (3, [0, 1])


def test_a_column_that_is_named_as_the_label_is_not_left_out() -> None:
    exclude = [Exclusion(column="id", index=0, reason=Reason.ROW_NUMBERS)]
    dataset = resolve_upload(make_facts(suggested=Suggestion(exclude=exclude)), {"label": "id"}, task="regression")
    assert dataset.model_dump()["dataset"]["exclude"] == []


@pytest.mark.parametrize("given", [{"exclude": []}, {"columns": ["id", "y"]}])
def test_columns_that_the_parameters_name_replace_the_suggestion(given: dict[str, Any]) -> None:
    assert resolve_upload(make_facts(suggested=SUGGESTED), given).model_dump()["dataset"]["exclude"] == []


@pytest.mark.parametrize(
    ("label", "task"),
    [
        (words("label"), "classification"),
        (ColumnFacts(name="label", type=ColumnType.BOOLEAN, distinct=2, missing=0), "classification"),
        (number("label", type="integer", distinct=3, values=CLASSES), "classification"),
        (number("label", type="integer", distinct=50), "regression"),
        (number("label"), "regression"),
    ],
)
def test_the_task_is_guessed_from_the_label(label: ColumnFacts, task: str) -> None:
    assert resolve_upload(make_facts(number("x"), label), {"label": "label"}).task == task


@pytest.mark.parametrize(
    ("dataset", "params", "problems"),
    [
        ({"label": None}, {}, {"/label": "label-needed"}),
        ({"label": "colour?"}, {}, {"/label": "column-unknown"}),
        ({"label": 5}, {}, {"/label": "column-index-unknown"}),
        ({"exclude": ["id", "ids", 9]}, {}, {"/exclude/1": "column-unknown", "/exclude/2": "column-index-unknown"}),
        ({"exclude": ["id", 0]}, {}, {"/exclude/1": "column-twice"}),
        ({"columns": ["x", -4]}, {}, {"/columns/1": "column-twice"}),
        ({"exclude": ["x", "kind"]}, {}, {"/exclude/1": "label-excluded"}),
        ({"columns": ["kind", "x"]}, {}, {"/columns/0": "label-chosen"}),
        ({"columns": ["x", "y"], "exclude": ["y"]}, {}, {"/columns/1": "column-excluded"}),
        ({"columns": []}, {}, {"": "attributes-missing"}),
        ({"columns": ["colour"], "text_columns": "drop"}, {}, {"": "attributes-missing"}),
        ({"text_columns": "refuse"}, {}, {"/text_columns": "columns-of-text"}),
    ],
)
def test_columns_that_cannot_be_used_are_refused(
    dataset: dict[str, Any], params: dict[str, Any], problems: dict[str, str]
) -> None:
    expected = {f"/params/dataset{pointer}": code for pointer, code in problems.items()}
    assert find_problems(make_facts(), {"label": "kind"} | dataset, **params) == expected


def test_gaps_are_refused_unless_they_may_be_in_rows_without_a_label() -> None:
    gap, refuse = number("x", missing=1), {"label": "kind", "missing": "refuse"}
    assert find_problems(make_facts(gap, words("kind")), refuse) == {"/params/dataset/missing": "columns-with-gaps"}
    assert resolve_upload(make_facts(gap, words("kind", missing=1)), refuse).task == "classification"


def test_an_ambiguous_name_is_refused() -> None:
    facts = make_facts(number("x"), number("x"), words("kind"))
    assert find_problems(facts, {"label": "kind", "columns": ["x"]}) == {
        "/params/dataset/columns/0": "column-ambiguous"
    }
    assert find_problems(facts, {"label": "x"}) == {"/params/dataset/label": "column-ambiguous"}


@pytest.mark.parametrize(
    ("label", "params", "pointer", "code"),
    [
        (words("label", distinct=1, examples=["a"]), {}, "dataset/label", "label-one-class"),
        (number("label", distinct=1_001), {"task": "classification"}, "dataset/label", "label-too-many-classes"),
        (words("label"), {"task": "regression"}, "task", "label-not-a-number"),
        (number("label", max=1e200), {"task": "regression"}, "dataset/label", "columns-too-large"),
        (
            number("label", type="empty", distinct=0, missing=100, min=None, max=None),
            {},
            "dataset/label",
            "label-empty",
        ),
        (words("label", missing=100, distinct=0, values=[]), {}, "dataset/missing", "no-row-left"),
        (words("label"), {"k": 71}, "k", "k-too-large"),
        (
            words("label", missing=90),
            {"evaluation": {"method": "kfold", "folds": 11}},
            "evaluation/folds",
            "folds-too-many",
        ),
        (words("label"), {"evaluation": {"train_size": 100}}, "evaluation/train_size", "train-size-too-large"),
        (words("label"), {"evaluation": {"train_size": 0.001}}, "evaluation/train_size", "train-size-too-small"),
        (words("label", missing=99), {"evaluation": {"method": "loo"}}, "dataset", "one-row"),
    ],
)
def test_labels_and_evaluations_that_cannot_succeed_are_refused(
    label: ColumnFacts, params: dict[str, Any], pointer: str, code: str
) -> None:
    assert find_problems(make_facts(number("x"), label), {"label": "label"}, **params) == {f"/params/{pointer}": code}


def test_attributes_that_cannot_be_measured_are_refused() -> None:
    facts = make_facts(words("label"), number("x", min=-1e200), number("y", max=1e141), number("z"))
    assert find_problems(facts, {"label": "label"}) == {"/params/dataset/upload": "columns-too-large"}
    facts = make_facts(words("label"), number("x"))
    assert find_problems(facts, {"label": "label"}, metric="bhattacharyya") == {
        "/params/metric": "bhattacharyya-negative"
    }
    wide = make_facts(words("label"), *(words(f"x{index}", distinct=30) for index in range(24_000)))
    assert find_problems(wide, {"label": "label"}) == {"/params/dataset/text_columns": "columns-too-wide"}
    resolve_upload(wide, {"label": "label", "text_columns": "ordinal"})


def test_all_problems_are_in_one_answer() -> None:
    facts = make_facts(words("label", distinct=1), words("x"), number("y", missing=2))
    dataset = {"label": "label", "text_columns": "refuse", "missing": "refuse"}
    assert find_problems(facts, dataset, k=99) == {
        "/params/dataset/label": "label-one-class",
        "/params/dataset/text_columns": "columns-of-text",
        "/params/dataset/missing": "columns-with-gaps",
        "/params/k": "k-too-large",
    }
    assert find_problems(facts, {"label": "colour"}, k=99) == {
        "/params/dataset/label": "column-unknown",
        "/params/k": "k-too-large",
    }


def test_columns_that_are_left_out_are_not_judged() -> None:
    facts = make_facts(words("label"), number("x"), words("y", missing=9, distinct=31), number("z", max=1e200))
    resolve_upload(facts, {"label": "label", "exclude": ["z"], "missing": "refuse"})


def test_stratified_parts_need_enough_rows_of_each_class() -> None:
    facts = make_facts(number("x"), words("label", missing=5))
    pointer = "/params/evaluation/stratify"

    def evaluate(**evaluation: Any) -> dict[str, Any]:
        return {"evaluation": {"method": "kfold", "folds": 21, "stratify": True} | evaluation}

    label = {"label": "label"}
    assert find_problems(facts, label, **evaluate()) == {pointer: "class-too-small"}
    for possible in ({"folds": 20}, {"stratify": "auto"}, {"stratify": False}):
        resolve_upload(facts, label, **evaluate(**possible))
    many = make_facts(number("x"), words("label", distinct=60))
    assert find_problems(many, label, **evaluate(folds=2)) == {pointer: "classes-too-small"}
    assert find_problems(facts, {"label": "x"}, **evaluate()) == {pointer: "stratify-needs-classes"}


def test_the_built_in_data_set_is_judged_by_its_facts() -> None:
    assert resolve(KnnParams(), None).task == "classification"
    with pytest.raises(RequestInvalidError) as refused:
        resolve(KnnParams.model_validate({"k": 179, "evaluation": {"method": "loo"}}), None)
    assert [problem.code for problem in refused.value.problems] == ["k-too-large"]


def test_the_facts_of_the_built_in_data_set_are_those_of_its_file() -> None:
    facts, numbers = load_facts(WINE.name), np.loadtxt(DATA_FOLDER / WINE.file, delimiter=",")
    assert [column.name for column in facts.columns] == [WINE.label, *WINE.columns]
    assert facts.rows == len(numbers)
    for column, values in zip(facts.columns, numbers.T, strict=True):
        assert (column.min, column.max, column.distinct) == (values.min(), values.max(), len(np.unique(values)))
        assert (column.mean, column.spread) == pytest.approx((values.mean(), values.std()))
        assert column.bins == np.histogram(values, 20)[0].tolist()
        assert column.missing == 0


def test_a_submission_is_judged_without_numpy() -> None:
    code = "import sys; import shared.kinds.knn.resolution; sys.exit('numpy' in sys.modules or 'polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
