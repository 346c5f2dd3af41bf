"""A real worker whose engine does nothing, which leaves what a job costs besides its compute.

Started as ``python -m tests.bench.empty_worker``, with the worker's own arguments.
"""

from typing import Any

from worker import __main__ as command
from worker import registry
from worker.engines.interface import JobContext


class EmptyEngine:
    """Gives a result at once."""

    name = "empty"

    def prepare(self) -> None:
        """Nothing to load."""

    def run(self, context: JobContext[Any]) -> dict[str, Any]:
        """Do nothing."""
        del context
        return {}


if __name__ == "__main__":
    registry.make_engine = lambda *_: EmptyEngine()
    registry.needs_mindspore = lambda *_: False
    command.main()
