"""Where the time of a whole job goes, run by the engine as a worker runs it, files and checkpoints written for real.

It runs in the application's environment, with a model in the layout of the hub, and prints one JSON object::

    python -m tests.bench.own_job FOLDER KEPT --duration-s 10
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from unittest import mock

from shared.files.file_store import FileStore
from shared.files.keys import artifact_key
from shared.files.registry import open_file_store
from shared.ids import make_id
from shared.jobs import Lease
from shared.kinds.musicgen.parameters import MusicgenParams
from tests.bench.own_engine import open_engine
from tests.bench.own_model import NAME
from tests.bench.positions import PROMPT
from tests.bench.serving import write
from worker.checkpoint import StoredCheckpoint
from worker.engines.interface import JobContext
from worker.engines.musicgen import engine as engine_module
from worker.engines.musicgen.engine import MusicgenEngine
from worker.engines.musicgen.pipeline import MusicgenPipeline

BEFORE: Final = "before: finding the model, the first checkpoint"
TEXT: Final = "text"
DECODING: Final = "decoding"
STAGES: Final = {"generating": DECODING, "decoding": "codec", "writing": "writing, the rest"}
"""The engine's stages, as readers call them. Its decoding is EnCodec's."""
WRITING: Final = {
    "find_warnings": "writing, loudness",
    "level": "writing, loudness",
    "measure": "writing, loudness",
    "draw_waveform": "writing, pictures",
    "draw_spectrogram": "writing, pictures",
    "encode": "writing, files",
    "serialize_codes": "writing, files",
}
"""What the engine calls while it writes."""
FILES: Final = "writing, files"
WARM_UP_S: Final = 3.0

Result = TypeVar("Result")


class Stopwatch:
    """Adds up what parts of a job take."""

    def __init__(self) -> None:
        self.taken_s: dict[str, float] = defaultdict(float)
        self._part = BEFORE
        self._since_s = time.perf_counter()

    def turn(self, part: str) -> str:
        """Begin with another part; return the one that was on."""
        now_s = time.perf_counter()
        self.taken_s[self._part] += now_s - self._since_s
        before, self._part, self._since_s = self._part, part, now_s
        return before

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """Count what is within to a part."""
        before = self.turn(part)
        try:
            yield
        finally:
            self.turn(before)

    def wrap(self, part: str, function: Callable[..., Result]) -> Callable[..., Result]:
        """Count a function's calls to a part."""

        def call(*arguments: Any, **named: Any) -> Result:
            with self.within(part):
                return function(*arguments, **named)

        return call


def run_job(engine: MusicgenEngine, files: FileStore, duration_s: float) -> dict[str, Any]:
    """Run a job; return what its parts took, and its result."""
    lease = Lease(make_id(), 1)
    params = MusicgenParams.model_validate(
        {"model": NAME, "prompts": [PROMPT], "duration_s": duration_s, "loudness": "lufs", "seed": 0}
    )
    stopwatch = Stopwatch()
    seen: set[str] = set()

    def report(*, stage: str, done: int, total: int, unit: str) -> None:
        del done, total, unit
        if stage in STAGES and stage not in seen:
            seen.add(stage)
            stopwatch.turn(STAGES[stage])

    def save(name: str, media_type: str, content: bytes) -> None:
        del media_type
        files.put(artifact_key(lease.job_id, lease.attempt, name), [content])

    with ExitStack() as stack:
        for name, part in WRITING.items():
            replaced = stopwatch.wrap(part, getattr(engine_module, name))
            stack.enter_context(mock.patch.object(engine_module, name, replaced))
        encode_text = stopwatch.wrap(TEXT, MusicgenPipeline.encode_text)
        stack.enter_context(mock.patch.object(MusicgenPipeline, "encode_text", encode_text))
        checkpoint = StoredCheckpoint(files, lease)
        assignment = JobContext(params, {}, report, stopwatch.wrap(FILES, save), checkpoint)
        result = engine.run(assignment)
    stopwatch.turn("")
    return {"parts": dict(stopwatch.taken_s), "engine": result["engine"], "precision": result["precision"]}


def main() -> None:
    """Measure the second job: the first loads the model, and compiles."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.own_job")
    parser.add_argument("folder", type=Path, help="the model's")
    parser.add_argument("kept", type=Path, help="where compiled graphs are kept")
    parser.add_argument("--duration-s", type=float, default=10.0)
    arguments = parser.parse_args()
    with open_engine(arguments.folder, arguments.kept) as (engine, settings):
        files = open_file_store(settings.storage)
        run_job(engine, files, WARM_UP_S)
        write(duration_s=arguments.duration_s, **run_job(engine, files, arguments.duration_s))


if __name__ == "__main__":
    main()
