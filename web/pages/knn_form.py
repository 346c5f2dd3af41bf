"""The form of a knn job."""

from typing import Any, ClassVar

from shared.jobs import Kind
from shared.schemas.knn import Metric, Normalisation, Task, Weights
from web.pages.forms import DEVICES, FILE, Form, read_number

_EVALUATIONS = {"holdout": ("train_size", "seed"), "kfold": ("folds", "repeats", "seed"), "loo": ()}


class KnnForm(Form):
    """What to evaluate, on which data; of several files the last one counts."""

    CHOICES: ClassVar = {
        "task": list(Task),
        "metric": list(Metric),
        "weights": list(Weights),
        "normalise": list(Normalisation),
        "method": list(_EVALUATIONS),
        "device": DEVICES,
    }
    DEFAULTS: ClassVar = {
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
    SWITCHES = frozenset({"header"})

    def write_body(self) -> dict[str, Any]:
        """See ``Form``."""
        fields = self.fields
        dataset: dict[str, Any] = {"name": "wine"}
        if self.uploads:
            label = read_number(fields["label"])
            dataset = {"upload": self.uploads[-1], "label": label, "header": "header" in fields}
        ks = [read_number(part) for part in fields["k"].split(",")]
        method = fields["method"]
        split = {name: read_number(fields[name]) for name in _EVALUATIONS.get(method, ())}
        params: dict[str, Any] = {
            "dataset": dataset,
            "task": fields["task"],
            "k": ks[0] if len(ks) == 1 else ks,
            "metric": fields["metric"],
            "weights": fields["weights"],
            "normalise": fields["normalise"],
            "evaluation": {"method": method} | split,
        }
        if fields["metric"] == Metric.MINKOWSKI:
            params["p"] = read_number(fields["p"])
        return {"kind": Kind.KNN, "params": params, "device": fields["device"]}

    def _place(self, parts: list[str]) -> tuple[str, str]:
        # Past the container: /params/evaluation/folds is the field "folds", /params/k/0 is "k".
        names = [part for part in parts if not part.isdecimal()]
        last = names[-1] if names else ""
        return {"upload": FILE, "evaluation": "method", "dataset": FILE}.get(last, last), ""
