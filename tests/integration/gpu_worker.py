"""A real worker whose knn engine has a backend that needs no MindSpore, as a backend of another framework would.

Started as ``python -m tests.integration.gpu_worker``, with the worker's own arguments. It leaves notes in a folder:
which device was probed, and which modules of MindSpore the parent process had loaded at its end.
"""

import os
import sys
from pathlib import Path
from typing import Any, Final

from shared.jobs import Kind
from tests.support.engine_specs import make_engine_spec
from worker import __main__ as command
from worker.devices import Device
from worker.engines import ENGINES
from worker.engines.interface import JobContext

NOTES_FOLDER: Final = "GPU_WORKER_NOTES"
"""The environment variable that names the folder."""


class ToyEngine:
    """Returns what the child process has loaded, and which GPU it can see."""

    name = "toy"

    def prepare(self) -> None:
        """Nothing to load."""

    def run(self, context: JobContext[Any]) -> dict[str, Any]:
        """Compute nothing."""
        context.report(stage="computing", done=1, total=1, unit="rows")
        return {"mindspore": list_mindspore_modules(), "visible": os.environ["CUDA_VISIBLE_DEVICES"]}


def list_mindspore_modules() -> list[str]:
    """List the modules of MindSpore that this process has loaded."""
    return sorted(name for name in sys.modules if name.split(".")[0] in {"mindspore", "mindnlp", "mindtorch"})


def write_note(name: str, content: str) -> None:
    """Leave a note for the test."""
    (Path(os.environ[NOTES_FOLDER]) / name).write_text(content)


def probe(device: Device) -> None:
    """Record the device; it is there, as far as this backend is concerned."""
    write_note("probed", str(device))


if __name__ == "__main__":
    ENGINES[Kind.KNN] = make_engine_spec(ToyEngine, name="toy", probe=probe)
    try:
        command.main()
    finally:
        write_note("parent", str(list_mindspore_modules()))
