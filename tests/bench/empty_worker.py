"""A real worker whose engine does nothing, so that only the overhead of a job is measured.

Start it with ``python -m tests.bench.empty_worker`` and the arguments of a worker.
"""

from typing import Any

from shared.jobs import Kind
from tests.support.engine_specs import make_engine_spec
from worker import __main__ as command
from worker.engines import ENGINES
from worker.engines.interface import JobContext


class EmptyEngine:
    """Returns an empty result at once."""

    name = "empty"

    def prepare(self) -> None:
        """Do nothing: this engine has nothing to load."""

    def run(self, context: JobContext[Any]) -> dict[str, Any]:
        """Return an empty result."""
        del context
        return {}


if __name__ == "__main__":
    for kind in Kind:
        ENGINES[kind] = make_engine_spec(EmptyEngine, name=EmptyEngine.name)
    command.main()
