"""Evaluates a data set by a running instance and by scikit-learn, on the same folds."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import requests
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, r2_score

from shared.jobs import State
from tests.real_tables.cases import CASES, Case, K
from tests.support.html_pages import Page
from tests.support.waiting import DEADLINE_S

FOLDS: Final = 5
NORMALISE: Final = "zscore"
POINT: Final = 0.01
"""How far the scores may be apart: a percentage point."""
ORDERS: Final = 20


@dataclass(frozen=True)
class Comparison:
    """The scores of a data set: accuracies, or R² for regression.

    Parameters
    ----------
    label
        The column that the inspection suggests as the label.
    by_api, by_form
        The scores of the jobs. They, and the others, are None if a job was refused or failed.
    by_pipeline
        The scores of the pipeline of scikit-learn. The first one is that with the rows in the order of the file. If it
        differs, `ORDERS` random orders of the known rows follow: scikit-learn lets this order decide which of several
        rows at equal distance are neighbours.
    problem
        Why the job was refused or failed.
    """

    case: Case
    label: str | int | None = None
    rows: int | None = None
    by_api: float | None = None
    by_form: float | None = None
    by_pipeline: Sequence[float] = ()
    problem: str = ""

    @property
    def agrees(self) -> bool:
        """Whether both scores of the service are within a percentage point of the pipeline's."""
        if self.by_api is None or self.by_form is None or not self.by_pipeline:
            return False
        low, high = min(self.by_pipeline) - POINT, max(self.by_pipeline) + POINT
        return low <= self.by_api <= high and low <= self.by_form <= high


class RefusedError(Exception):
    """The service has refused a request."""


class Service:
    """Submits jobs to an instance.

    Parameters
    ----------
    address
        The address of the instance, without a slash at its end.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._session = requests.Session()

    def compare(self, case: Case, folder: Path) -> Comparison:
        """Evaluate a data set through the API, through the form, and by the pipeline on the folds of the first job."""
        path = folder / case.file
        try:
            evaluation = make_evaluation(case)
            jobs = [self.run(path, evaluation), self._wait(self.submit_by_form(path, evaluation))]
        except RefusedError as error:
            return Comparison(case, problem=str(error))
        failed = [str(job["error"]["detail"]) for job in jobs if job["state"] != State.SUCCEEDED]
        if failed:
            return Comparison(case, problem=failed[0])
        by_api, by_form = (find_score(job, case) for job in jobs)
        folds = self.read_folds(jobs[0])
        label, rows = jobs[0]["params"]["dataset"]["label"], jobs[0]["result"]["preparation"]["rows"]
        found = Comparison(case, label, rows, by_api, by_form, [score_pipeline(case, folder, folds, None)])
        if found.agrees:
            return found
        orders = [score_pipeline(case, folder, folds, np.random.default_rng(seed)) for seed in range(ORDERS)]
        return replace(found, by_pipeline=[*found.by_pipeline, *orders])

    def run(self, path: Path, evaluation: Mapping[str, Any]) -> dict[str, Any]:
        """Upload a file, run a job that names nothing but the upload and the evaluation, and return the ended job."""
        upload = self._call("POST", "/api/v1/uploads", files={"file": (path.name, path.read_bytes())})
        params = {
            "dataset": {"upload": upload["id"]},
            "k": K,
            "normalise": NORMALISE,
            "evaluation": evaluation,
        }
        return self._wait(str(self._call("POST", "/api/v1/jobs", json={"kind": "knn", "params": params})["id"]))

    def submit_by_form(self, path: Path, evaluation: Mapping[str, Any]) -> str:
        """Choose a file on the form, send the form as it is then shown with the evaluation, and return the job's id."""
        address = f"{self._address}/knn"
        fields = Page(self._session.get(address, timeout=DEADLINE_S).text).find_form("/knn").fields
        shown = self._session.post(
            address, {**fields, "preview": "1"}, files={"file": (path.name, path.read_bytes())}, timeout=DEADLINE_S
        )
        fields = Page(shown.text).find_form("/knn").fields
        chosen = {name: str(value) for name, value in evaluation.items()}
        sent = self._session.post(address, {**fields, "k": str(K), **chosen}, timeout=DEADLINE_S, allow_redirects=False)
        if sent.status_code != requests.codes.see_other:
            raise RefusedError(f"the form was refused with {sent.status_code}: {sent.text}")
        return sent.headers["Location"].rpartition("/")[2]

    def read_folds(self, job: Mapping[str, Any]) -> dict[int, NDArray[np.int64]]:
        """Read which rows of the table were predicted in each fold."""
        address = f"{self._address}/api/v1/jobs/{job['id']}/artifacts/predictions.csv"
        response = self._session.get(address, timeout=DEADLINE_S)
        response.raise_for_status()
        folds: dict[int, list[int]] = {}
        for row in csv.DictReader(io.StringIO(response.text)):
            folds.setdefault(int(row["fold"]), []).append(int(row["index"]))
        return {fold: np.array(rows) for fold, rows in folds.items()}

    def _wait(self, job_id: str) -> dict[str, Any]:
        while True:
            job = self._call("GET", f"/api/v1/jobs/{job_id}", headers={"Prefer": "wait=60"})
            if job["finished_at"]:
                return job

    def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        response = self._session.request(method, self._address + path, timeout=DEADLINE_S, **content)
        if not response.ok:
            raise RefusedError(f"{method} {path} was refused with {response.status_code}: {response.text}")
        body: dict[str, Any] = response.json()
        return body


def make_evaluation(case: Case) -> dict[str, Any]:
    """Return how a data set is evaluated."""
    if case.sample is not None:
        return {"method": "holdout", "train_size": case.sample, "seed": 0}
    return {"method": "kfold", "folds": FOLDS, "seed": 0}


def find_score(job: Mapping[str, Any], case: Case) -> float:
    """Return the score of a job that succeeded."""
    return float(job["result"]["scores"][0]["r2" if case.regression else "accuracy"])


def score_pipeline(
    case: Case, folder: Path, folds: Mapping[int, NDArray[np.int64]], shuffle: np.random.Generator | None
) -> float:
    """Return the score of the pipeline over all folds together; the other rows with a label are known.

    Parameters
    ----------
    shuffle
        Shuffles the known rows; they stay in the order of the file if it is None.
    """
    table, labels = case.load(folder)
    labelled = np.flatnonzero(labels.notna())
    found, truth = [], []
    for rows in folds.values():
        known = np.setdiff1d(labelled, rows)
        if shuffle is not None:
            shuffle.shuffle(known)
        pipeline = case.make_pipeline().fit(table.iloc[known], labels.iloc[known])
        found.append(pipeline.predict(table.iloc[rows]))
        truth.append(labels.iloc[rows])
    score = r2_score if case.regression else accuracy_score
    return float(score(np.concatenate(truth), np.concatenate(found)))


def compare_all(address: str, folder: Path, cases: Sequence[Case] = CASES) -> list[Comparison]:
    """Evaluate data sets by the instance at an address."""
    service = Service(address)
    return [service.compare(case, folder) for case in cases]
