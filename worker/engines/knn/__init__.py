"""The engine for k nearest neighbours, which computes with MindSpore."""

from typing import Final

from shared.kinds.knn.parameters import KnnParams
from shared.settings import Settings
from shared.tables.facts import Limits
from worker.devices import Device
from worker.engines.interface import Engine
from worker.engines.knn.backends import choose_backend
from worker.engines.spec import EngineSpec


def _make(device: Device, settings: Settings) -> Engine[KnnParams]:
    from worker.engines.knn.engine import KnnEngine  # noqa: PLC0415 - this import loads MindSpore

    return KnnEngine(
        device=str(device),
        memory_budget_bytes=settings.knn_memory_mb * 2**20,
        limits=Limits(settings.max_dataset_rows, settings.max_dataset_columns, settings.max_unpacked_bytes),
    )


ENGINE: Final = EngineSpec(choose_backend=choose_backend, make=_make)
