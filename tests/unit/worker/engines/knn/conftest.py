import pytest

from shared.kinds.knn.csv_files import Limits
from shared.kinds.knn.datasets import Dataset, load
from shared.kinds.knn.parameters import KnnParams
from worker.engines.knn.cells import Cells
from worker.engines.knn.search import Finder

LIMITS = Limits(rows=10_000, columns=100)


@pytest.fixture(scope="session")
def cells() -> Cells:
    return Cells()


@pytest.fixture(scope="session")
def finder(cells: Cells) -> Finder:
    return Finder(cells, budget_bytes=256 << 20)


@pytest.fixture(scope="session")
def wine() -> Dataset:
    return load(KnnParams(), {}, LIMITS)
