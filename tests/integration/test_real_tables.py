"""Real tables through the API and the form of an instance, compared with pipelines of scikit-learn.

`make tables` does this with the tables of many packages; here are those that scikit-learn itself carries, and one whose
rows are often at equal distance.
"""

import random
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from shared.instance.ready import format_address
from tests.conftest import SHORT_INTERVALS
from tests.real_tables.cases import CASES
from tests.real_tables.comparison import POINT, Service
from tests.support.instances import make_settings, wait_for_ready
from tests.support.processes import ServiceProcess
from tests.support.titanic import list_people

SHIPPED = ["iris.csv", "breast_cancer.csv", "digits.csv.gz"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with make_settings(**SHORT_INTERVALS) as settings:
        log = tmp_path_factory.mktemp("instance") / "up.log"
        instance = ServiceProcess("shared.instance.up", settings=settings, log=log)
        try:
            wait_for_ready(instance, settings)
            yield Service(format_address(settings))
        finally:
            instance.close()


@pytest.mark.parametrize("name", SHIPPED)
def test_table_of_scikit_learn_has_the_score_of_a_pipeline(service: Service, tmp_path: Path, name: str) -> None:
    (case,) = (case for case in CASES if case.file == f"sklearn-{name}")
    with (
        files("sklearn").joinpath("datasets/data", name).open("rb") as source,
        (tmp_path / case.file).open("wb") as copy,
    ):
        shutil.copyfileobj(source, copy)
    found = service.compare(case, tmp_path)
    assert found.agrees, found


def test_the_order_of_the_rows_does_not_change_the_score(service: Service, tmp_path: Path) -> None:
    people = list_people()
    scores = []
    for number in range(11):
        table = tmp_path / f"titanic-{number}.csv"
        table.write_text("class,age,sex,survived\n" + "".join(f"{','.join(map(str, row))}\n" for row in people))
        job = service.run(table, {"method": "kfold", "folds": 5})
        scores.append(job["result"]["scores"][0]["accuracy"])
        random.Random(number).shuffle(people)  # noqa: S311 - to repeat the test
    assert 0.68 <= min(scores) <= max(scores) <= 0.79
    assert max(scores) - min(scores) <= POINT
