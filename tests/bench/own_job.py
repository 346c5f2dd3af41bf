"""How the time of a whole job is divided among its parts.

The engine runs the job as in a worker, with real files and checkpoints. This program runs in the environment of the
application, reads a model in the layout of the Hugging Face hub, and prints one JSON object::

    python -m tests.bench.own_job FOLDER COMPILED_FOLDER --duration-s 10
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
from tests.bench.serving import print_figures
from tests.bench.workload import PROMPT
from worker.checkpoint import StoredCheckpoint
from worker.engines.interface import JobContext
from worker.engines.musicgen import sample_files
from worker.engines.musicgen.engine import MusicgenEngine
from worker.engines.musicgen.pipeline import MusicgenPipeline

SETUP: Final = "before the text: storing the first checkpoint, finding the model"
TEXT: Final = "text"
DECODING: Final = "decoding"
STAGES: Final = {"generating": DECODING, "decoding": "codec", "writing": "writing, other work"}
"""Maps each stage that the engine reports to the part of the job under which the benchmark counts the stage.

``decoding`` has two meanings: as a stage of the engine, it is EnCodec's decoding of codes to audio; as a part in the
report, it is the generation of tokens.
"""
WRITING_PARTS: Final = {
    "find_warnings": "writing, loudness",
    "level": "writing, loudness",
    "measure": "writing, loudness",
    "draw_waveform": "writing, pictures",
    "draw_spectrogram": "writing, pictures",
    "encode": "writing, files",
    "decode": "writing, files",
    "find_clipping": "writing, loudness",
    "serialize_codes": "writing, files",
}
"""For each function that the engine calls in the stage ``writing``, the part to which the time of the call is added."""
FILES: Final = "writing, files"
WARM_UP_S: Final = 3.0

Result = TypeVar("Result")


class Stopwatch:
    """Adds up the time of each part of a job."""

    def __init__(self) -> None:
        self.part_s: dict[str, float] = defaultdict(float)
        self._part = SETUP
        self._part_start_s = time.perf_counter()

    def start_part(self, part: str) -> str:
        """End the current part and start another part; return the part that has ended."""
        now_s = time.perf_counter()
        self.part_s[self._part] += now_s - self._part_start_s
        previous, self._part, self._part_start_s = self._part, part, now_s
        return previous

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time that the ``with`` block takes to a part."""
        previous = self.start_part(part)
        try:
            yield
        finally:
            self.start_part(previous)

    def wrap(self, part: str, function: Callable[..., Result]) -> Callable[..., Result]:
        """Return a function that calls ``function``, and adds the time of each call to a part."""

        def call(*arguments: Any, **named: Any) -> Result:
            with self.measure(part):
                return function(*arguments, **named)

        return call


def run_job(engine: MusicgenEngine, files: FileStore, duration_s: float) -> dict[str, Any]:
    """Run a job; return the seconds of each part, the backend, and the precision."""
    lease = Lease(make_id(), 1)
    params = MusicgenParams.model_validate(
        {"model": NAME, "prompts": [PROMPT], "duration_s": duration_s, "loudness": "lufs", "seed": 0}
    )
    stopwatch = Stopwatch()
    reported: set[str] = set()

    def report(*, stage: str, done: int, total: int, unit: str) -> None:
        del done, total, unit
        if stage in STAGES and stage not in reported:
            reported.add(stage)
            stopwatch.start_part(STAGES[stage])

    def save(name: str, media_type: str, content: bytes) -> None:
        del media_type
        files.put(artifact_key(lease.job_id, lease.attempt, name), [content])

    with ExitStack() as stack:
        for name, part in WRITING_PARTS.items():
            timed = stopwatch.wrap(part, getattr(sample_files, name))
            stack.enter_context(mock.patch.object(sample_files, name, timed))
        encode_text = stopwatch.wrap(TEXT, MusicgenPipeline.encode_text)
        stack.enter_context(mock.patch.object(MusicgenPipeline, "encode_text", encode_text))
        checkpoint = StoredCheckpoint(files, lease)
        context = JobContext(params, {}, report, stopwatch.wrap(FILES, save), checkpoint)
        result = engine.run(context)
    stopwatch.start_part("")
    return {"parts": dict(stopwatch.part_s), "backend": result["engine"], "precision": result["precision"]}


def main() -> None:
    """Run a first job, which loads the model and compiles; then measure a second job, and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.own_job")
    parser.add_argument("folder", type=Path, help="the model's folder")
    parser.add_argument("compiled_folder", type=Path, help="for compiled graphs")
    parser.add_argument("--duration-s", type=float, default=10.0)
    arguments = parser.parse_args()
    with open_engine(arguments.folder, arguments.compiled_folder) as (engine, settings):
        files = open_file_store(settings.storage)
        run_job(engine, files, WARM_UP_S)
        print_figures(duration_s=arguments.duration_s, **run_job(engine, files, arguments.duration_s))


if __name__ == "__main__":
    main()
