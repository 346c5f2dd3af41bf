"""Pictures are well-formed SVG, contain the expected texts, and can be drawn for any table."""

from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from shared.kinds.knn.parameters import Task
from worker.engines.knn import scatter
from worker.engines.knn.dataset import Coded, Dataset, Encoding
from worker.engines.knn.pictures import draw_confusion, draw_scores
from worker.engines.knn.scatter import ScatterCache, draw_scatter

SVG = "{http://www.w3.org/2000/svg}"


def read_texts(picture: bytes) -> list[str]:
    root = ET.fromstring(picture)  # noqa: S314 - our own picture
    assert root.tag == f"{SVG}svg"
    assert not list(root.iter(f"{SVG}image"))
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def make_dataset(width: int, classes: int, count: int = 60) -> Dataset:
    rng = np.random.default_rng(width)
    labels: Any = np.arange(count) % classes if classes else rng.random(count)
    names = [f"class {number}" for number in range(classes)]
    return Dataset("Table", [f"attribute {i}" for i in range(width)], rng.random((count, width)), labels, names)


def test_the_scatter_plots_of_wine_show_four_pairs_of_attributes_and_the_classes(wine: Dataset) -> None:
    texts = read_texts(draw_scatter(wine, Task.CLASSIFICATION))
    assert set(wine.columns[:8]) <= set(texts)
    assert not set(wine.columns[8:]) & set(texts)
    assert {wine.name, "1", "2", "3"} <= set(texts)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7, 8, 20])
@pytest.mark.parametrize("classes", [0, 2, 8, 30], ids=["values", "2 classes", "8 classes", "30 classes"])
def test_the_scatter_plots_show_the_attributes_of_a_table_of_any_width(width: int, classes: int) -> None:
    task = Task.CLASSIFICATION if classes else Task.REGRESSION
    texts = read_texts(draw_scatter(make_dataset(width, classes), task))
    for number in range(min(width, 8)):
        assert f"attribute {number}" in texts
    assert ("Label" in texts) == (width == 1 or not classes)


@pytest.mark.parametrize(
    "values", [np.ones((5, 2)), np.array([[1e140, -1e140], [-1e140, 1e-140], [0, 0]])], ids=["constant", "extreme"]
)
def test_the_scatter_plots_are_drawn_for_constant_and_extreme_values(values: Any) -> None:
    labels = np.arange(len(values)) % 2
    read_texts(draw_scatter(Dataset("Table", ["x", "y"], values, labels, ["a", "b"]), Task.CLASSIFICATION))
    read_texts(draw_scatter(Dataset("Table", ["x", "y"], values, labels * 0.0, []), Task.REGRESSION))


def test_names_with_special_characters_are_shown_as_text() -> None:
    columns = ["price ($) in $x_1$", "数量 <&>\x07", "long " * 30]
    table = make_dataset(3, 2)
    dataset = Dataset("a <b>", columns, table.attributes, table.labels, ["<one>", "\x01"])
    texts = read_texts(draw_scatter(dataset, Task.CLASSIFICATION))
    assert {"a <b>", columns[0], "数量 <&>�", "<one>", "�"} <= set(texts)
    assert max(map(len, texts)) <= 36


def test_texts_are_drawn_after_numbers_with_the_names_of_their_values() -> None:
    attributes = np.array([[0, 1.5, np.nan], [1, np.nan, 0], [0, 3, 1]])
    coded = {0: Coded(Encoding.ONEHOT, ["red", "<ok>"]), 2: Coded(Encoding.BOOLEAN, ["no", "yes"])}
    dataset = Dataset("mixed", ["colour", "age", "smokes"], attributes, np.array([0, 1, 0]), ["a", "b"], coded)
    texts = read_texts(draw_scatter(dataset, Task.CLASSIFICATION))
    assert {"age", "colour", "red", "<ok>", "smokes", "no", "yes"} <= set(texts)
    assert texts.index("age") < texts.index("smokes")


def test_each_picture_of_a_large_table_shows_the_same_sample_of_rows() -> None:
    dataset = make_dataset(2, 2, count=5_000)
    picture = draw_scatter(dataset, Task.CLASSIFICATION)
    assert "Table, 2000 of 5000 rows" in read_texts(picture)
    assert picture == draw_scatter(dataset, Task.CLASSIFICATION)


def test_the_cache_draws_a_table_again_only_after_its_picture_was_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Dataset] = []

    def draw(dataset: Dataset, task: Task) -> bytes:
        drawn.append(dataset)
        return f"{dataset.name} {task}".encode()

    monkeypatch.setattr(scatter, "draw_scatter", draw)
    monkeypatch.setattr(scatter, "MAX_CACHED_PICTURES", 2)
    album, tables = ScatterCache(), [make_dataset(width, 2) for width in (1, 2, 3)]
    for number in (0, 0, 1, 0, 2, 0, 1):  # table 1 is removed from the cache when table 2 is added
        assert album.draw(tables[number], Task.CLASSIFICATION) == b"Table classification"
    assert [len(dataset.columns) for dataset in drawn] == [1, 2, 3, 2]


def make_confusion(classes: int) -> dict[str, Any]:
    confusion = np.diag(np.arange(classes) + 101)
    confusion[0, -1] = 7
    return {"best_k": 5, "confusion": confusion.tolist(), "classes": [f"c{number}" for number in range(classes)]}


def test_the_confusion_matrix_shows_every_count() -> None:
    texts = read_texts(draw_confusion(make_confusion(3)))
    assert {"c0", "c1", "c2", "101", "102", "103", "7", "0"} <= set(texts)
    assert {"k = 5: 306 of 313 right", "True class", "Predicted class"} <= set(texts)


def test_a_large_confusion_matrix_shows_only_the_most_frequent_classes() -> None:
    texts = read_texts(draw_confusion(make_confusion(60)))
    assert "c59" in texts
    assert "c1" not in texts
    assert "(the 40 most frequent of 60 classes)" in texts


@pytest.mark.parametrize("deviation", [None, 0.02])
def test_the_chart_of_classification_scores_shows_accuracy_and_macro_f1(deviation: float | None) -> None:
    scores = [{"k": k, "accuracy": 0.9, "accuracy_std": deviation, "macro_f1": 0.8} for k in (1, 5)]
    texts = read_texts(draw_scores({"scores": scores, "best_k": 5, "n_test": 178}, Task.CLASSIFICATION))
    assert {"Accuracy", "Macro F1", "best k = 5", "178 predictions for each k"} <= set(texts)
    assert ("± 1 standard deviation over the folds" in texts) == (deviation is not None)


def test_the_chart_of_regression_scores_shows_rmse_and_mae() -> None:
    scores = [{"k": k, "rmse": 2.0, "mae": 1.0, "r2": None} for k in (1, 5)]
    texts = read_texts(draw_scores({"scores": scores, "best_k": 1, "n_test": 50}, Task.REGRESSION))
    assert {"RMSE", "MAE", "best k = 1"} <= set(texts)
