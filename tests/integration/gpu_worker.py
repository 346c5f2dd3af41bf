"""A real worker whose knn engine has a backend without MindSpore, like a backend of another framework.

The worker is started as ``python -m tests.integration.gpu_worker``, with the arguments of ``python -m worker``. The
worker writes notes into a folder: which device was probed, and which modules of MindSpore the parent process had loaded
when the parent process ended.
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
"""The environment variable that contains the path of the folder for the notes."""


class ToyEngine:
    """Returns which modules of MindSpore the child process has loaded, and which GPU is visible to the process."""

    name = "toy"

    def prepare(self) -> None:
        """Do nothing: this engine loads nothing."""

    def run(self, context: JobContext[Any]) -> dict[str, Any]:
        """Report progress once; return the modules and the GPU, without computing anything."""
        context.report(stage="computing", done=1, total=1, unit="rows")
        return {"mindspore": list_mindspore_modules(), "visible": os.environ["CUDA_VISIBLE_DEVICES"]}


def list_mindspore_modules() -> list[str]:
    """List the modules of MindSpore that this process has loaded."""
    return sorted(name for name in sys.modules if name.split(".")[0] in {"mindspore", "mindnlp", "mindtorch"})


def write_note(name: str, content: str) -> None:
    """Write a note for the test."""
    (Path(os.environ[NOTES_FOLDER]) / name).write_text(content)


def probe(device: Device) -> None:
    """Record the device, and accept it as available without a check."""
    write_note("probed", str(device))


if __name__ == "__main__":
    ENGINES[Kind.KNN] = make_engine_spec(ToyEngine, name="toy", probe=probe)
    try:
        command.main()
    finally:
        write_note("parent", str(list_mindspore_modules()))
