"""A real worker whose engines follow instructions: of a musicgen job, those in its first prompt.

A knn job has no instructions but its gate: a file that is named like the job's ``k``, in the folder that the
environment variable ``GATED_WORKER_KNN`` names.

One instruction is the path of a file, the job's gate. The engine waits until the test opens the gate, by creating the
file. The worker is started as ``python -m tests.integration.gated_worker``, with the arguments of ``python -m worker``.
"""

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.errors import JobFailedError
from shared.jobs import Kind
from shared.kinds.knn.parameters import KnnParams
from shared.kinds.musicgen.parameters import MusicgenParams
from shared.texts import text
from tests.support.engine_specs import make_engine_spec
from worker import __main__ as command
from worker.devices import Device
from worker.engines import ENGINES
from worker.engines.interface import JobContext


class GatedEngine:
    """Stores a checkpoint, reports progress until the gate exists, and then ends as the job's instructions say."""

    name = "gated"

    def prepare(self) -> None:
        """Do nothing: this engine loads nothing."""

    def run(self, context: JobContext[Any]) -> dict[str, Any]:
        """Follow the instructions of the job."""
        instructions = parse_instructions(context.params)
        pause = threading.Event()
        gate = Path(instructions["gate"])
        earlier = context.checkpoint.load()
        context.checkpoint.store((earlier or b"") + b"%d " % os.getpid())
        if instructions.get("saves_early"):
            context.save("early.txt", "text/plain", b"saved by %d" % os.getpid())
        Path(f"{gate}.pid").write_text(str(os.getpid()))
        step = 0
        while not gate.exists():
            step += 1
            if not instructions.get("ignores_stop"):
                context.report(stage="waiting", done=min(step, 99), total=100, unit="steps")
            pause.wait(0.02)
        match instructions.get("then"):
            case "fail":
                raise JobFailedError("refused", text("refused"))
            case "crash":
                raise ZeroDivisionError("/a/path/that/users/must/not/see")
            case "fill":
                Path("/dev/full").write_bytes(b"x")
        context.save("out.txt", "text/plain", b"done by %d" % os.getpid())
        if earlier is not None:
            context.save("earlier.txt", "text/plain", earlier)
        return {"pid": os.getpid()}


class GatedMusicEngine(GatedEngine):
    """Runs several jobs at the same time if their instructions allow it."""

    def can_batch(self, params: MusicgenParams, running: Sequence[MusicgenParams]) -> bool:
        """Return whether the instructions of all these jobs allow a batch."""
        return all(parse_instructions(job).get("batches") for job in (params, *running))


def parse_instructions(params: MusicgenParams | KnnParams) -> dict[str, Any]:
    """Parse the instructions of a job: its first prompt, which is a JSON object."""
    if isinstance(params, KnnParams):
        return {"gate": f"{os.environ['GATED_WORKER_KNN']}/{params.k}"}
    instructions: dict[str, Any] = json.loads(params.prompts[0])
    return instructions


def prepare_process(device: Device) -> None:
    """Fail if the environment variable ``GATED_WORKER_BREAKS`` exists; wait for the file ``GATED_WORKER_START``."""
    if "GATED_WORKER_BREAKS" in os.environ:
        raise OSError(f"no such library for {device}")
    if start := os.environ.get("GATED_WORKER_START"):
        pause = threading.Event()
        while not Path(start).exists():
            pause.wait(0.02)


if __name__ == "__main__":
    # The real engine would load MindSpore, which takes seconds and is not needed here.
    ENGINES[Kind.KNN] = make_engine_spec(GatedEngine, name="gated")
    ENGINES[Kind.MUSICGEN] = make_engine_spec(
        GatedMusicEngine, name="gated", precisions=("float32", "int8"), prepare_process=prepare_process
    )
    command.main()
