"""The form of a knn job: fields in, the API's body out."""

import json
from collections.abc import Mapping
from typing import Any

from shared.errors import Problem
from shared.schemas.knn import Metric, Normalisation, Task, Weights

CHOICES: Mapping[str, list[str]] = {
    "task": list(Task),
    "metric": list(Metric),
    "weights": list(Weights),
    "normalise": list(Normalisation),
    "method": ["holdout", "kfold", "loo"],
    "device": ["auto", "cpu", "gpu", "ascend"],
}
DEFAULTS: Mapping[str, str] = {
    "label": "0",
    "header": "on",
    "task": Task.CLASSIFICATION,
    "k": "5",
    "metric": Metric.EUCLIDEAN,
    "p": "2",
    "weights": Weights.UNIFORM,
    "normalise": Normalisation.NONE,
    "method": "holdout",
    "train_size": "128",
    "folds": "10",
    "repeats": "1",
    "seed": "0",
    "device": "auto",
}
_EVALUATIONS = {"holdout": ("train_size", "seed"), "kfold": ("folds", "repeats", "seed"), "loo": ()}


def write_body(fields: Mapping[str, str], upload_id: str | None) -> dict[str, Any]:
    """Write the body that the API would have got; what is not a number stays text, for the schema to refuse.

    Parameters
    ----------
    fields
        The form as it was sent.
    upload_id
        Of the file that came with it.
    """
    dataset: dict[str, Any] = {"name": "wine"}
    if upload_id is not None:
        dataset = {"upload": upload_id, "label": _read(fields["label"]), "header": "header" in fields}
    ks = [_read(part) for part in fields["k"].split(",")]
    method = fields["method"]
    params: dict[str, Any] = {
        "dataset": dataset,
        "task": fields["task"],
        "k": ks[0] if len(ks) == 1 else ks,
        "metric": fields["metric"],
        "weights": fields["weights"],
        "normalise": fields["normalise"],
        "evaluation": {"method": method} | {name: _read(fields[name]) for name in _EVALUATIONS.get(method, ())},
    }
    if fields["metric"] == Metric.MINKOWSKI:
        params["p"] = _read(fields["p"])
    return {"kind": "knn", "params": params, "device": fields["device"]}


def place_problems(problems: list[Problem]) -> dict[str, str]:
    """Return field to message; what belongs to no field stands under the empty name."""
    placed: dict[str, str] = {}
    for problem in problems:
        # Past the container: /params/evaluation/folds is the field "folds", /params/k/0 is "k".
        parts = [part for part in problem.pointer.split("/") if part and not part.isdecimal()]
        name = {"upload": "file", "evaluation": "method", "dataset": "file"}.get(parts[-1], parts[-1]) if parts else ""
        placed[name if name in DEFAULTS or name == "file" else ""] = problem.detail
    return placed


def _read(text: str) -> int | float | str:
    try:
        number = json.loads(text)
    except ValueError:
        return text.strip()
    return number if type(number) in {int, float} else text.strip()
