"""A real worker whose musicgen engine does what its prompt says, and waits at a gate until the test opens it.

Started as ``python -m tests.integration.gated_worker``, with the worker's own arguments.
"""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.errors import JobFailedError
from worker import __main__ as command
from worker import devices, registry
from worker.engines.interface import JobContext


class GatedEngine:
    """Stores a checkpoint, then reports its steps until the gate, a file, is there."""

    name = "gated"

    def prepare(self) -> None:
        """Nothing to load."""

    def can_batch(self, params: Mapping[str, Any], beside: Sequence[Mapping[str, Any]]) -> bool:
        """Join jobs that say so."""
        return all(json.loads(job["prompts"][0]).get("shares") for job in (params, *beside))

    def run(self, context: JobContext[Any]) -> dict[str, Any]:
        """Do what the first prompt says, a JSON object."""
        orders = json.loads(context.params["prompts"][0])
        pause = threading.Event()
        gate = Path(orders["gate"])
        earlier = context.checkpoint.load()
        context.checkpoint.store((earlier or b"") + b"%d " % os.getpid())
        Path(f"{gate}.pid").write_text(str(os.getpid()))
        step = 0
        while not gate.exists():
            step += 1
            if not orders.get("deaf"):
                context.report(stage="waiting", done=min(step, 99), total=100, unit="looks")
            pause.wait(0.02)
        match orders.get("then"):
            case "fail":
                raise JobFailedError("told-to", "It was told to fail.")
            case "crash":
                raise ZeroDivisionError("/a/path/that/users/must/not/see")
            case "fill":
                Path("/dev/full").write_bytes(b"x")
        context.save("out.txt", "text/plain", b"done by %d" % os.getpid())
        if earlier is not None:
            context.save("earlier.txt", "text/plain", earlier)
        return {"pid": os.getpid()}


if __name__ == "__main__":
    registry.name_engine = lambda *_: "gated"
    registry.make_engine = lambda *_: GatedEngine()

    # MindSpore takes seconds to load, and nothing here computes with it.
    def select(device: devices.Device) -> None:
        if "GATED_WORKER_BREAKS" in os.environ:
            raise OSError(f"no such library for {device}")

    devices.select_in_mindspore = select
    command.main()
