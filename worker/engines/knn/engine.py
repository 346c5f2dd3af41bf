"""The KNN engine: it takes the parameters of a job, and returns scores and pictures."""

import json
import time
from typing import Any

from shared.errors import JobFailedError, RequestInvalidError
from shared.kinds.knn.parameters import KnnParams
from shared.tables.errors import TableError
from shared.tables.facts import Limits
from worker.engines.interface import JobContext, ReportProgress
from worker.engines.knn import pictures
from worker.engines.knn.cells import Cells
from worker.engines.knn.checks import check, list_warnings
from worker.engines.knn.dataset import Dataset
from worker.engines.knn.evaluation import Predictions, evaluate
from worker.engines.knn.predictions_csv import format_predictions
from worker.engines.knn.preparation import Prepared, prepare
from worker.engines.knn.scatter import ScatterCache
from worker.engines.knn.scores import summarise
from worker.engines.knn.search import Finder
from worker.engines.knn.tables import complete_params, load_table

Artifact = tuple[str, str, bytes]


class KnnEngine:
    """Evaluates k nearest neighbours on the device that this process is pinned to.

    Parameters
    ----------
    device
        The device's class and number, ``cpu:0`` for example.
    memory_budget_bytes
        The working memory that a search for neighbours may use.
    limits
        How large a table may be.
    """

    name: str = "mindspore"

    def __init__(self, *, device: str, memory_budget_bytes: int, limits: Limits) -> None:
        self._device_class = device.partition(":")[0]
        self._finder = Finder(Cells(), memory_budget_bytes)
        self._limits = limits
        self._album = ScatterCache()

    def prepare(self) -> None:
        """Run the default job once and discard its result: this compiles tiles and loads fonts."""
        self.run(JobContext(params=KnnParams(), uploads={}, report=_ignore_progress, save=_ignore_artifact))

    def run(self, context: JobContext[KnnParams]) -> dict[str, Any]:
        """Run one job; no artifact is saved before all artifacts have been made.

        Raises
        ------
        JobFailedError
            The data set does not fit the parameters, or the metric is not defined on the values.
        JobStoppedError
            The job must stop; ``report`` raised this error.
        """
        started_s = time.perf_counter()
        params, prepared = self._prepare(context)
        dataset = prepared.dataset
        predictions = evaluate(params, dataset, self._finder, _Stage(context.report, "evaluating", "rows"))
        result = summarise(params, dataset, predictions) | {
            "device": self._device_class,
            "compute_s": time.perf_counter() - started_s,
            "preparation": prepared.report,
            "warnings": list_warnings(params, prepared),
        }
        for artifact in self._make_artifacts(params, dataset, predictions, result, context.report):
            context.save(*artifact)
        return result

    def _prepare(self, context: JobContext[KnnParams]) -> tuple[KnnParams, Prepared]:
        """Read and prepare the table; also return complete parameters."""
        try:
            params = complete_params(context.params)
            title, table = load_table(params, context.uploads, self._limits)
            prepared = prepare(params, table, title)
            check(params, prepared.dataset)
        except RequestInvalidError as error:
            raise JobFailedError("dataset-invalid", error.problems[0].text) from error
        except TableError as error:
            raise JobFailedError("dataset-invalid", error.text) from error
        return params, prepared

    def _make_artifacts(
        self,
        params: KnnParams,
        dataset: Dataset,
        predictions: Predictions,
        result: dict[str, Any],
        report: ReportProgress,
    ) -> list[Artifact]:
        """Make all artifacts of a job; the caller saves them afterwards."""
        write = _Stage(report, "writing", "rows")
        table = format_predictions(dataset, predictions, params.known_task, result["best_k"], write)
        artifacts = [("predictions.csv", "text/csv", table)]
        draw = _Stage(report, "drawing", "pictures")
        drawings = pictures.list_pictures(params, dataset, result, self._album)
        for done, (name, make) in enumerate(drawings):
            draw(done, len(drawings))
            artifacts.append((name, "image/svg+xml", make()))
        draw(len(drawings), len(drawings))
        content = json.dumps({"params": params.model_dump(mode="json"), "result": result}, indent=2, allow_nan=False)
        return [*artifacts, ("report.json", "application/json", content.encode())]


class _Stage:
    """Reports the progress of one stage of a job."""

    def __init__(self, report: ReportProgress, stage: str, unit: str) -> None:
        self._report = report
        self._stage = stage
        self._unit = unit

    def __call__(self, done: int, total: int) -> None:
        self._report(stage=self._stage, done=done, total=total, unit=self._unit)


def _ignore_progress(*, stage: str, done: int, total: int, unit: str) -> None:
    """Discard a progress report."""


def _ignore_artifact(name: str, media_type: str, content: bytes) -> None:
    """Discard an artifact."""
