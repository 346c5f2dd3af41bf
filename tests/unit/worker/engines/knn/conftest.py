import pytest

from shared.kinds.knn.parameters import KnnParams
from shared.tables.facts import Limits
from worker.engines.knn.cells import Cells
from worker.engines.knn.dataset import Dataset
from worker.engines.knn.preparation import prepare
from worker.engines.knn.search import Finder
from worker.engines.knn.tables import complete_params, load_table

LIMITS = Limits(rows=10_000, columns=100, bytes=2**20)


@pytest.fixture(scope="session")
def cells() -> Cells:
    return Cells()


@pytest.fixture(scope="session")
def finder(cells: Cells) -> Finder:
    return Finder(cells, budget_bytes=256 << 20)


@pytest.fixture(scope="session")
def wine() -> Dataset:
    params = complete_params(KnnParams())
    title, table = load_table(params, {}, LIMITS)
    return prepare(params, table, title).dataset
