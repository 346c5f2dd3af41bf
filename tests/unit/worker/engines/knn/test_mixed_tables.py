"""Tables with text, booleans and gaps are predicted as by pipelines of scikit-learn that are written by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler

from shared.kinds.knn.parameters import KnnParams
from shared.tables.facts import ColumnType
from shared.tables.table import Column, Table
from worker.engines.knn.dataset import Dataset
from worker.engines.knn.evaluation import Predictions, evaluate
from worker.engines.knn.preparation import prepare
from worker.engines.knn.search import Finder

COUNT = 80
SCALERS = {"none": FunctionTransformer, "zscore": StandardScaler, "minmax": MinMaxScaler}
KNN = {"classification": KNeighborsClassifier, "regression": KNeighborsRegressor}


def make_cells(*, rare: bool = True) -> dict[str, list[Any]]:
    """Make columns with gaps; None is a missing cell. If ``rare``, one value of a text occurs only once."""
    rng = np.random.default_rng(4)
    cells: dict[str, list[Any]] = {
        "a": rng.normal(5, 3, COUNT).tolist(),
        "b": rng.normal(-1, 0.2, COUNT).tolist(),
        "flag": (rng.random(COUNT) < 0.3).astype(float).tolist(),
        "colour": rng.choice(["blue", "green", "red"], COUNT).tolist(),
        "size": rng.choice(["l", "m", "s", "xl"], COUNT).tolist(),
    }
    if rare:
        cells["colour"][17] = "violet"
    for name in ("a", "flag", "colour"):
        for row in rng.choice(COUNT, 15, replace=False):
            cells[name][row] = None
    if rare:
        cells["colour"][17] = "violet"
    return cells


def make_table(cells: dict[str, list[Any]], task: str) -> Table:
    """Add the label ``y``, which depends on the cells."""
    score = [
        (a or 0) + 3 * (colour == "red") + (size == "s")
        for a, colour, size in zip(cells["a"], cells["colour"], cells["size"], strict=True)
    ]
    columns = [Column("y", ColumnType.NUMBER, numbers=np.array(score))]
    if task == "classification":
        columns = [
            Column(
                "y", ColumnType.TEXT, texts=["high" if value > 6 else "low" if value < 4 else "mid" for value in score]
            )
        ]
    for name, values in cells.items():
        if name in {"colour", "size"}:
            columns.append(Column(name, ColumnType.TEXT, texts=values))
        else:
            numbers = np.array(values, np.float64)
            is_flag = name == "flag"
            columns.append(
                Column(
                    name,
                    ColumnType.BOOLEAN if is_flag else ColumnType.NUMBER,
                    numbers=numbers,
                    words=("no", "yes") if is_flag else None,
                )
            )
    return Table(columns, np.arange(COUNT) + 2)


def make_peer(cells: dict[str, list[Any]], params: dict[str, Any]) -> tuple[Pipeline, Any]:
    """Make the pipeline, and the rows that it is fitted to."""
    rows = np.array([*cells.values()], dtype=object).T
    names = [*cells]
    scaler = SCALERS[params["normalise"]]
    number = ("number", make_pipeline(SimpleImputer(strategy="median"), scaler()), [names.index("a"), names.index("b")])
    flag = ("flag", SimpleImputer(strategy="most_frequent"), [names.index("flag")])
    imputer = SimpleImputer(missing_values=None, strategy="most_frequent")
    if params["dataset"].get("text_columns") == "ordinal":
        encoder = make_pipeline(imputer, OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), scaler())
    else:
        encoder = make_pipeline(imputer, OneHotEncoder(handle_unknown="ignore", sparse_output=False))
    text = ("text", encoder, [names.index("colour"), names.index("size")])
    knn = KNN[params["task"]](params["k"], weights=params["weights"], algorithm="brute")
    as_numbers = FunctionTransformer(
        lambda table: np.array([[np.nan if cell is None else cell for cell in row] for row in table], np.float64)
    )
    number = ("number", make_pipeline(as_numbers, number[1]), number[2])
    flag = ("flag", make_pipeline(as_numbers, flag[1]), flag[2])
    return make_pipeline(ColumnTransformer([number, flag, text]), knn), rows


def run(finder: Finder, cells: dict[str, list[Any]], params: dict[str, Any]) -> tuple[Dataset, Predictions]:
    validated = KnnParams.model_validate(params)
    dataset = prepare(validated, make_table(cells, params["task"]), "Table").dataset
    return dataset, evaluate(validated, dataset, finder, lambda _done, _total: None)


KFOLD = {"method": "kfold", "folds": 4, "seed": 2}


@pytest.mark.parametrize("evaluation", [KFOLD, {"method": "holdout", "train_size": 0.7}, {"method": "loo"}], ids=str)
@pytest.mark.parametrize("normalise", ["none", "zscore", "minmax"])
@pytest.mark.parametrize("text_columns", ["onehot", "ordinal"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_predictions_equal_those_of_a_pipeline_that_is_fitted_to_the_training_part(
    task: str, text_columns: str, normalise: str, evaluation: dict[str, Any], finder: Finder
) -> None:
    cells = make_cells()
    params: dict[str, Any] = {
        "dataset": {"upload": "u", "label": "y", "text_columns": text_columns},
        "task": task,
        "k": 5,
        "normalise": normalise,
        "weights": "distance",
        "evaluation": evaluation,
    }
    dataset, found = run(finder, cells, params)
    peer, rows = make_peer(cells, params)
    for fold in np.unique(found.fold):
        part = found.fold == fold
        known = np.setdiff1d(np.arange(COUNT), found.index[part])
        peer.fit(rows[known], dataset.labels[known])
        distances, _ = peer[-1].kneighbors(peer[0].transform(rows[found.index[part]]))
        np.testing.assert_allclose(found.distances[part], distances, atol=1e-9)
        np.testing.assert_allclose(found.labels[5][part], peer.predict(rows[found.index[part]]), rtol=1e-9)


@pytest.mark.parametrize("metric", ["euclidean", "hamming"])
def test_leave_one_out_in_a_single_search_equals_leave_one_out_fold_by_fold(metric: str, finder: Finder) -> None:
    """Without a value that occurs once only, and without gaps, all folds have the same encoding."""
    cells = make_cells(rare=False)
    cells = {name: ["red" if cell is None else cell for cell in cells[name]] for name in ("colour", "size")}
    table = make_table(cells | {"a": [0.0] * COUNT}, "classification")
    params = {
        "dataset": {"upload": "u", "label": "y"},
        "task": "classification",
        "k": 5,
        "metric": metric,
        "ties": "order",
    }
    validated = KnnParams.model_validate(params | {"evaluation": {"method": "loo"}})
    dataset = prepare(validated, table, "Table").dataset
    at_once = evaluate(validated, dataset, finder, lambda _done, _total: None)
    single = replace(dataset, attributes=dataset.attributes.copy())
    single.attributes[0, dataset.columns.index("a")] = np.nan  # a gap makes every fold be encoded by itself
    fold_by_fold = evaluate(validated, single, finder, lambda _done, _total: None)
    np.testing.assert_array_equal(at_once.neighbours, fold_by_fold.neighbours)
    np.testing.assert_allclose(at_once.distances, fold_by_fold.distances)


def test_an_attribute_that_is_missing_in_a_whole_training_part_is_left_out_of_this_fold(finder: Finder) -> None:
    attributes = np.array([[0.0, np.nan], [1, np.nan], [2, np.nan], [3, 100]])
    dataset = Dataset("gap", ["x", "z"], attributes, np.array([0, 1, 0, 1]), ["a", "b"])
    params = KnnParams.model_validate({"k": 1, "task": "classification", "evaluation": {"method": "loo"}})
    found = evaluate(params, dataset, finder, lambda _done, _total: None)
    assert (found.neighbours[3, 0], found.distances[3, 0]) == (2, 1)
