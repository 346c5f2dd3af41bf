from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_wine

from shared.kinds.knn.csv_files import Limits
from shared.kinds.knn.datasets import WINE, Dataset, load
from shared.kinds.knn.parameters import KnnParams

LIMITS = Limits(rows=1000, columns=50)


def load_text(tmp_path: Path, text: str, **dataset: object) -> Dataset:
    file = tmp_path / "table.csv"
    file.write_text(text, encoding="utf-8")
    task = dataset.pop("task", "classification")
    params = KnnParams.model_validate({"dataset": {"upload": "u", **dataset}, "task": task})
    return load(params, {"u": file}, LIMITS)


def test_wine_data_set_equals_the_published_table() -> None:
    dataset = load(KnnParams(), {}, LIMITS)
    reference = load_wine()
    np.testing.assert_array_equal(dataset.attributes, reference.data)
    np.testing.assert_array_equal(dataset.labels, reference.target)
    assert dataset.columns == list(WINE.columns)
    assert (dataset.classes, len(dataset.labels)) == (list(WINE.classes), WINE.rows)


def test_label_column_is_found_by_name_or_index(tmp_path: Path) -> None:
    text = "a,kind,b\n1,x,2\n3,y,4\n"
    for label in ("kind", 1, -2):
        dataset = load_text(tmp_path, text, label=label)
        assert dataset.columns == ["a", "b"]
        assert dataset.classes == ["x", "y"]
        np.testing.assert_array_equal(dataset.attributes, [[1, 2], [3, 4]])
        np.testing.assert_array_equal(dataset.labels, [0, 1])


def test_table_with_byte_order_mark_and_crlf_and_without_header_is_read(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "\ufeff10,1.5\r\n9,-2e3\r\n\r\n", label=0, header=False)
    assert dataset.classes == ["9", "10"]  # sorted as numbers, not as text
    np.testing.assert_array_equal(dataset.attributes, [[1.5], [-2000.0]])


def test_labels_of_a_regression_are_read_as_numbers(tmp_path: Path) -> None:
    dataset = load_text(tmp_path, "y,a\n1.5,1\n2.5,2\n", label="y", task="regression")
    np.testing.assert_array_equal(dataset.labels, [1.5, 2.5])
    assert dataset.classes == []


@pytest.mark.parametrize("quoted", ['"x, y"', '"x ""y"""'])
def test_quoted_cell_may_contain_commas_and_quotes(tmp_path: Path, quoted: str) -> None:
    dataset = load_text(tmp_path, f"k,a\n{quoted},1\nz,2\n", label="k")
    assert len(dataset.classes) == 2
