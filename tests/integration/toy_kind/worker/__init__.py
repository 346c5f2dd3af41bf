"""The engine of the toy kind."""

from typing import Any, Final

from shared.kinds.toy.parameters import ToyParams

from shared.errors import JobFailedError
from shared.jobs import DeviceClass
from shared.texts import text
from worker.engines.backend import Backend
from worker.engines.interface import JobContext
from worker.engines.spec import EngineSpec

BACKEND: Final = Backend(name="python", device_classes=frozenset(DeviceClass), is_installed=lambda: True)


class ToyEngine:
    """Adds up numbers."""

    name: str = "python"

    def prepare(self) -> None:
        """Do nothing."""

    def run(self, context: JobContext[ToyParams]) -> dict[str, Any]:
        """Add up the numbers of one job."""
        numbers = context.params.numbers
        context.report(stage="adding", done=len(numbers), total=len(numbers), unit="numbers")
        total = sum(numbers)
        if total < 0:
            raise JobFailedError("negative", text("toy-total-negative", total=total))
        context.save("total.txt", "text/plain", str(total).encode())
        return {"total": total}


ENGINE: Final = EngineSpec(choose_backend=lambda *_: BACKEND, make=lambda *_: ToyEngine())
