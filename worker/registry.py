"""Which engine runs which kind."""

from collections.abc import Sequence

from shared.jobs import DeviceClass, Kind
from shared.kinds.knn.csv_files import Limits
from shared.settings import Settings
from worker.devices import Device
from worker.engines.interface import Engine
from worker.engines.musicgen.backends.registry import Engine as MusicEngine
from worker.engines.musicgen.backends.registry import choose_engine


def name_engine(kind: Kind, device: DeviceClass, settings: Settings) -> str:
    """Name the engine that runs a kind on a class of device, as jobs and devices show it."""
    return "mindspore" if kind is Kind.KNN else choose_engine(settings.musicgen_backend, device)


def needs_mindspore(kinds: Sequence[Kind], device: DeviceClass, settings: Settings) -> bool:
    """Tell whether any of the kinds runs on MindSpore there, by itself or under MindNLP."""
    return any(name_engine(kind, device, settings) != MusicEngine.OPENVINO for kind in kinds)


def make_engine(kind: Kind, device: Device, settings: Settings) -> Engine:
    """Make the engine of a kind; imports its framework, so for a worker's child only."""
    if kind is Kind.KNN:
        from worker.engines.knn.engine import KnnEngine  # noqa: PLC0415 - loads MindSpore

        return KnnEngine(
            device=str(device),
            memory_budget_bytes=settings.knn_memory_mb * 2**20,
            limits=Limits(settings.max_dataset_rows, settings.max_dataset_columns),
        )
    from worker.engines.musicgen.engine import MusicgenEngine  # noqa: PLC0415 - loads NumPy, which must find the cores pinned

    return MusicgenEngine(device.device_class, settings)
