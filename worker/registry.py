"""Which engine runs which kind."""

from collections.abc import Mapping
from typing import Final

from shared.errors import JobFailedError
from shared.jobs import Kind
from shared.settings import Settings
from worker.devices import Device
from worker.engines.contract import Engine

ENGINES: Final[Mapping[Kind, str]] = {Kind.KNN: "mindspore"}


def make_engine(kind: Kind, device: Device, settings: Settings) -> Engine:
    """Make the engine of a kind; imports its framework, so for a worker's child only.

    Raises
    ------
    JobFailedError
        This worker has none.
    """
    if kind is Kind.KNN:
        from shared.datasets import Limits  # noqa: PLC0415 - NumPy may load only after the cores are pinned
        from worker.engines.knn.engine import KnnEngine  # noqa: PLC0415 - loads MindSpore

        return KnnEngine(
            device=str(device),
            memory_budget_bytes=settings.knn_memory_mb * 2**20,
            limits=Limits(settings.dataset_rows_most, settings.dataset_columns_most),
        )
    raise JobFailedError(
        "engine-missing",
        f"There is no engine for {kind} here",
        f"The worker on {device} has no engine for {kind} jobs; ask whoever runs this service to install one.",
    )
