"""The KNN engine as a worker runs it: from the parameters of a job come a result, artifacts and progress reports."""

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import mindspore
import numpy as np
import pytest

from shared.errors import JobFailedError, JobStoppedError, RequestInvalidError
from shared.jobs import Kind
from shared.kinds.knn import SPEC
from shared.kinds.knn.parameters import KnnParams, UploadedDataset
from shared.settings import Settings
from shared.tables.facts import ReadOptions
from shared.tables.reading import inspect_table
from shared.texts import text
from tests.unit.worker.engines.knn.conftest import LIMITS
from tests.unit.worker.engines.result_check import check_result
from worker.engines.interface import Engine, JobContext
from worker.engines.knn.dataset import Dataset
from worker.engines.knn.engine import KnnEngine

KFOLD = {"method": "kfold", "folds": 5, "repeats": 2, "seed": 1}


class Job:
    """Runs a job, and keeps its progress reports and its artifacts."""

    def __init__(
        self, engine: Engine[Any], *, stop_at: int | None = None, table: str | None = None, folder: Path | None = None
    ) -> None:
        self._engine = engine
        self._stop_at = stop_at
        self._uploads = {}
        if table is not None and folder is not None:
            self._uploads["one"] = folder / "table.csv"
            self._uploads["one"].write_text(table)
        self.progress: list[tuple[str, int, int, str]] = []
        self.artifacts: dict[str, tuple[str, bytes]] = {}
        self.refused: RequestInvalidError | None = None

    def report(self, *, stage: str, done: int, total: int, unit: str) -> None:
        self.progress.append((stage, done, total, unit))
        if len(self.progress) == self._stop_at:
            raise JobStoppedError(text("cancelled"))

    def save(self, name: str, media_type: str, content: bytes) -> None:
        assert name not in self.artifacts
        self.artifacts[name] = (media_type, content)

    def run(self, **params: Any) -> dict[str, Any]:
        wanted = KnnParams.model_validate(params)
        facts = None
        if isinstance(wanted.dataset, UploadedDataset):
            path = self._uploads[wanted.dataset.upload]
            facts = inspect_table(path, ReadOptions(), LIMITS).model_dump(mode="json")
        try:
            wanted = SPEC.resolve(wanted, {"one": facts or {}}, Settings())
        except RequestInvalidError as error:
            self.refused = error
        result = self._engine.run(JobContext(wanted, self._uploads, self.report, self.save))
        check_result(Kind.KNN, result)
        return result


@pytest.fixture(scope="module")
def engine() -> KnnEngine:
    return KnnEngine(device="cpu:0", memory_budget_bytes=64 << 20, limits=LIMITS)


def test_a_job_with_default_parameters_gives_all_results_and_artifacts(engine: KnnEngine) -> None:
    job = Job(engine)
    result = job.run()
    assert set(result) == {
        "scores", "best_k", "classes", "confusion", "per_class", "n_train", "n_test", "device", "compute_s",
        "preparation", "warnings",
    }  # fmt: skip
    assert (result["n_train"], result["n_test"], result["device"], result["best_k"]) == (128, 50, "cpu", 5)
    assert result["classes"] == ["1", "2", "3"]
    assert result["compute_s"] > 0
    (score,) = result["scores"]
    assert set(score) == {"k", "accuracy", "accuracy_std", "macro_f1"}
    assert score["accuracy_std"] is None
    assert 0.65 < score["accuracy"] < 0.85
    assert score["accuracy"] == np.trace(result["confusion"]) / 50
    assert {name: media for name, (media, _) in job.artifacts.items()} == {
        "predictions.csv": "text/csv",
        "scatter.svg": "image/svg+xml",
        "confusion.svg": "image/svg+xml",
        "report.json": "application/json",
    }


def test_a_job_with_several_k_and_folds_predicts_each_row_once_per_repeat(engine: KnnEngine, wine: Dataset) -> None:
    job = Job(engine)
    result = job.run(k=[3, 1, 3], normalise="zscore", evaluation=KFOLD)
    assert [score["k"] for score in result["scores"]] == [1, 3]
    assert (result["n_train"], result["n_test"]) == (142, 356)
    assert all(score["accuracy_std"] > 0 for score in result["scores"])
    assert "scores.svg" in job.artifacts
    lines = list(csv.DictReader(io.StringIO(job.artifacts["predictions.csv"][1].decode())))
    assert list(lines[0]) == ["index", "label", "prediction", "neighbours", "distances", "fold"]
    assert [line["fold"] for line in lines] == sorted((line["fold"] for line in lines), key=int)
    assert {line["fold"] for line in lines} == set(map(str, range(10)))
    best = result["scores"][[1, 3].index(result["best_k"])]
    assert sum(line["label"] == line["prediction"] for line in lines) / 356 == best["accuracy"]
    for line in lines:
        assert line["label"] == wine.classes[wine.labels[int(line["index"])]]
        neighbours, distances = line["neighbours"].split(), list(map(float, line["distances"].split()))
        assert len(neighbours) == len(distances) == result["best_k"]
        assert line["index"] not in neighbours
        assert distances == sorted(distances)
    assert sorted(int(line["index"]) for line in lines) == sorted([*range(178), *range(178)])


def test_a_regression_job_predicts_the_mean_of_its_neighbours(engine: KnnEngine, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    table = "y,x1,x2,x3\n" + "\n".join(",".join(map(repr, row)) for row in rng.random((40, 4)).tolist())
    job = Job(engine, table=table, folder=tmp_path)
    result = job.run(dataset={"upload": "one", "label": "y"}, task="regression", k=[2, 5], evaluation={"method": "loo"})
    assert set(result["scores"][0]) == {"k", "rmse", "mae", "r2"}
    assert (result["classes"], result["confusion"], result["per_class"]) == (None, None, None)
    assert (result["n_train"], result["n_test"]) == (39, 40)
    assert set(job.artifacts) == {"predictions.csv", "scatter.svg", "scores.svg", "report.json"}
    lines = list(csv.DictReader(io.StringIO(job.artifacts["predictions.csv"][1].decode())))
    errors = [float(line["prediction"]) - float(line["label"]) for line in lines]
    assert min(score["rmse"] for score in result["scores"]) == pytest.approx(np.sqrt(np.square(errors).mean()))
    labels = np.array([float(line["label"]) for line in lines])
    first = labels[list(map(int, lines[0]["neighbours"].split()))]
    assert float(lines[0]["prediction"]) == pytest.approx(first.mean())
    assert [line["fold"] for line in lines] == list(map(str, range(40)))


def test_a_table_as_people_have_it_is_evaluated_and_what_was_done_is_reported(
    engine: KnnEngine, tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    lines = ["rownames;size;colour;alive;seen;note;kind"]
    for number in range(90):
        size = "NA" if number % 9 == 4 else f"{number % 3 + rng.random():.3f}".replace(".", ",")
        colour, alive = ["red", "blue", "?"][number % 5 % 3], ["TRUE", "FALSE"][number % 2]
        kind = "" if number == 7 else f"k{number % 3}"
        lines.append(f"{number + 1};{size};{colour};{alive};2024-01-{number % 28 + 1:02};note {number};{kind}")
    job = Job(engine, table="\n".join(lines), folder=tmp_path)
    result = job.run(k=3, normalise="zscore", dataset={"upload": "one"}, evaluation={"method": "kfold", "folds": 5})
    assert job.refused is None
    assert result["classes"] == ["k0", "k1", "k2"]
    assert result["scores"][0]["accuracy"] > 0.5
    preparation = result["preparation"]
    assert (preparation["rows"], preparation["used_rows"], preparation["dropped_without_label"]) == (90, 89, 1)
    assert preparation["detected"] == {
        "header": True,
        "delimiter": ";",
        "decimal": ",",
        "encoding": "utf-8",
        "sheet": None,
    }
    assert {column["column"]: (column["use"], column["imputed"]) for column in preparation["columns"]} == {
        "rownames": ("left-out", None),
        "size": ("number", "median"),
        "colour": ("onehot", "most_frequent"),
        "alive": ("boolean", None),
        "seen": ("days", None),
        "note": ("left-out", None),
        "kind": ("label", None),
    }
    assert [warning["code"] for warning in result["warnings"]] == ["rows-without-label"]
    assert json.loads(job.artifacts["report.json"][1])["result"]["preparation"] == preparation
    rows = {int(row["index"]) for row in csv.DictReader(io.StringIO(job.artifacts["predictions.csv"][1].decode()))}
    assert rows == {*range(90)} - {7}  # as in the file


@pytest.mark.parametrize("stratify", ["auto", True])
def test_classes_that_are_smaller_than_the_folds_are_a_warning_or_refused(
    stratify: object, engine: KnnEngine, tmp_path: Path
) -> None:
    table = "kind,v,w\n" + "".join(f"{'rare' if n < 2 else 'ab'[n % 2]},{n * 7 % 11},{n % 5}\n" for n in range(40))
    job = Job(engine, table=table, folder=tmp_path)
    wanted = {"dataset": {"upload": "one"}, "evaluation": {"method": "kfold", "folds": 4, "stratify": stratify}}
    if stratify is True:
        with pytest.raises(JobFailedError):
            job.run(**wanted, task="classification")
        assert job.refused is not None
        assert [problem.code for problem in job.refused.problems] == ["class-too-small"]
    else:
        assert {"code": "classes-spread", "values": {"classes": "'rare'", "min_rows": 4}} in job.run(**wanted)[
            "warnings"
        ]


def test_attributes_of_very_different_spread_are_a_warning(engine: KnnEngine) -> None:
    assert [warning["code"] for warning in Job(engine).run()["warnings"]] == ["spreads-differ"]
    assert Job(engine).run(normalise="zscore")["warnings"] == []


def test_labels_that_a_spreadsheet_would_run_as_formulas_are_marked(engine: KnnEngine, tmp_path: Path) -> None:
    labels = ["=1+1", "+A1", "-1", "+1", "@x", "plain"]
    table = "a,b,=kind\n" + "".join(f"{number},{number},{labels[number % 6]}\n" for number in range(12))
    job = Job(engine, table=table, folder=tmp_path)
    result = job.run(k=1, dataset={"upload": "one", "label": "=kind", "exclude": []}, evaluation={"method": "loo"})
    assert set(result["classes"]) == set(labels)
    rows = list(csv.reader(io.StringIO(job.artifacts["predictions.csv"][1].decode())))
    assert rows[0] == ["index", "label", "prediction", "neighbours", "distances", "fold"]
    expected = {"'=1+1", "'+A1", "-1", "+1", "'@x", "plain"}
    assert {row[1] for row in rows[1:]} == expected
    assert {row[2] for row in rows[1:]} <= expected


def test_the_pictures_are_valid_svg_and_the_report_is_valid_json(engine: KnnEngine) -> None:
    job = Job(engine)
    result = job.run(k=[1, 5], weights="distance", evaluation={"method": "loo"})
    for name in ("scatter.svg", "confusion.svg", "scores.svg"):
        ET.fromstring(job.artifacts[name][1])  # noqa: S314 - our own picture
    report = json.loads(job.artifacts["report.json"][1])
    assert report["result"] == result
    assert report["params"]["weights"] == "distance"
    assert report["params"]["evaluation"] == {"method": "loo", "seed": 0}
    assert report["params"]["task"] == "classification"


def test_the_same_job_gives_the_same_bytes_with_any_memory_budget(engine: KnnEngine) -> None:
    jobs = [Job(engine), Job(KnnEngine(device="cpu:0", memory_budget_bytes=64 << 10, limits=LIMITS))]
    for job in jobs:
        job.run(k=[1, 3], evaluation=KFOLD)
    first, second = (job.artifacts for job in jobs)
    del first["report.json"], second["report.json"]
    assert first == second


def test_stages_are_reported_in_the_order_in_which_they_run(engine: KnnEngine) -> None:
    job = Job(engine)
    job.run()
    assert list(dict.fromkeys((stage, unit) for stage, _, _, unit in job.progress)) == [
        ("evaluating", "rows"),
        ("writing", "rows"),
        ("drawing", "pictures"),
    ]
    assert ("evaluating", 50, 50, "rows") in job.progress
    assert job.progress[-1] == ("drawing", 2, 2, "pictures")


@pytest.mark.parametrize("evaluation", [{}, {"method": "loo"}, KFOLD])
@pytest.mark.parametrize("normalise", ["none", "zscore"])
def test_a_stopped_job_saves_no_artifact(normalise: str, evaluation: dict[str, Any], engine: KnnEngine) -> None:
    whole = Job(engine)
    whole.run(normalise=normalise, evaluation=evaluation)
    for stop_at in (1, 2, len(whole.progress)):
        job = Job(engine, stop_at=stop_at)
        with pytest.raises(JobStoppedError):
            job.run(normalise=normalise, evaluation=evaluation)
        assert len(job.progress) == stop_at
        assert job.artifacts == {}


@pytest.mark.parametrize(
    ("table", "params", "words"),
    [
        ("y,x\n1,2\n2,3\n1,4\n", {"evaluation": {"train_size": 3}}, "leaves no row"),
        ("y,x\n1,2\n2,3\n1,4\n", {"k": 3, "evaluation": {"method": "loo"}}, "training part"),
        ("y,x\n1,-2\n2,3\n", {"k": 1, "metric": "bhattacharyya", "evaluation": {"method": "loo"}}, "negative"),
    ],
    ids=["too few rows", "too large a k", "negative values"],
)
def test_a_job_fails_if_its_parameters_do_not_fit_the_data_set(
    table: str, params: dict[str, Any], words: str, engine: KnnEngine, tmp_path: Path
) -> None:
    job = Job(engine, table=table, folder=tmp_path)
    with pytest.raises(JobFailedError, match=words) as failure:
        job.run(dataset={"upload": "one", "label": "y"}, task="classification", **params)
    assert job.refused is not None  # the submission refuses it already
    assert failure.value.type == "dataset-invalid"
    assert job.artifacts == {}


def test_a_job_with_the_bhattacharyya_metric_fails_if_scaled_values_are_negative(engine: KnnEngine) -> None:
    with pytest.raises(JobFailedError) as failure:
        Job(engine).run(metric="bhattacharyya", normalise="minmax", evaluation={"method": "loo"})
    assert failure.value.type == "negative-values"


def test_preparing_the_engine_does_not_change_the_mindspore_mode_of_the_process() -> None:
    """Another engine in the same process may need the other mode."""
    before = mindspore.get_context("mode")
    KnnEngine(device="gpu:1", memory_budget_bytes=64 << 20, limits=LIMITS).prepare()
    assert mindspore.get_context("mode") == before


def test_the_result_contains_the_class_of_the_device() -> None:
    engine = KnnEngine(device="ascend:3", memory_budget_bytes=64 << 20, limits=LIMITS)
    assert Job(engine).run()["device"] == "ascend"
    assert engine.name == "mindspore"
