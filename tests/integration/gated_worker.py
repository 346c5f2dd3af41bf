"""A real worker whose musicgen engine does what its first prompt says, once the test opens its gate.

Started as ``python -m tests.integration.gated_worker``, with the worker's own arguments.
"""

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.errors import JobFailedError
from shared.jobs import Kind
from shared.kinds.musicgen.parameters import MusicgenParams
from shared.texts import text
from tests.support.engine_specs import make_engine_spec
from worker import __main__ as command
from worker.devices import Device
from worker.engines import ENGINES
from worker.engines.interface import JobContext


class GatedEngine:
    """Stores a checkpoint, and then reports progress until the gate, a file, exists."""

    name = "gated"

    def prepare(self) -> None:
        """Nothing to load."""

    def can_batch(self, params: MusicgenParams, running: Sequence[MusicgenParams]) -> bool:
        """Batch the jobs whose instructions allow it."""
        return all(parse_instructions(job).get("batches") for job in (params, *running))

    def run(self, context: JobContext[MusicgenParams]) -> dict[str, Any]:
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


def parse_instructions(params: MusicgenParams) -> dict[str, Any]:
    """Parse the first prompt, a JSON object."""
    instructions: dict[str, Any] = json.loads(params.prompts[0])
    return instructions


def prepare_process(device: Device) -> None:
    """Fail if the test says so."""
    if "GATED_WORKER_BREAKS" in os.environ:
        raise OSError(f"no such library for {device}")


if __name__ == "__main__":
    # MindSpore takes seconds to load, and nothing here computes with it.
    ENGINES[Kind.MUSICGEN] = make_engine_spec(
        GatedEngine, name="gated", precisions=("float32", "int8"), prepare_process=prepare_process
    )
    command.main()
