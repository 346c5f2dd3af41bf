"""How fast the service's own MusicGen steps, reads, decodes, loads and compiles.

It runs in the application's environment, with a model in the layout of the hub, and answers JSON lines with JSON
lines, so that it can wait, idle and compiled, while a peer is measured::

    echo '{"measure": "time_steps", "jobs": 4, "steps": 24}' | python -m tests.bench.native_steps FOLDER

``peak_bytes`` is the process's highest resident size until then, the model included.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from shared.jobs import DeviceClass
from shared.settings import Settings
from tests.bench.memory_reads import count_cache_bytes
from tests.bench.mindnlp_steps import PROMPT, SAMPLING
from tests.bench.native_memory import read_peak_bytes
from worker.devices import Device, pin_process, select_in_mindspore
from worker.engines.musicgen.composer import Codes, Order, Sample
from worker.engines.musicgen.decoder import TextStates

Measurement = dict[str, Any]

TEXT_TOKENS: Final = 32
CLIP_FRAMES: Final = 500
"""10 s at the published models' 50 Hz."""
REPEATS: Final = 3
STEPS_PER_PLACE: Final = 9


class Bench:
    """A loaded model, and what can be measured of it."""

    def __init__(self, folder: Path) -> None:
        device = Device(DeviceClass.CPU, 0)
        pin_process(device, 1)
        select_in_mindspore(device)
        from worker.engines.musicgen.native import NativeComposer
        from worker.engines.musicgen.network.layers import Target

        cache_bytes_most = Settings(home=folder).musicgen_cache_mb * 2**20
        self._composer = NativeComposer(folder, Target(), cache_bytes_most)
        self._config = self._composer.config.decoder
        self._random = np.random.default_rng(0)

    def time_steps(self, jobs: int, steps: int) -> Measurement:
        """Generate for so many jobs at once, as a job does; time the steps, sampling included.

        The first, which may compile, is told apart.
        """
        times_s: dict[int, float] = {}
        start_s = time.perf_counter()

        def note_time(*, stage: str, done: int, total: int, unit: str) -> None:
            del total, unit
            if stage == "generating":
                times_s.setdefault(done, time.perf_counter())

        order = Order([Sample(PROMPT, None, seed) for seed in range(jobs)], steps, SAMPLING)
        self._composer.compose(order, note_time, lambda _: None, None)
        durations_s = [
            after - before for before, after in itertools.pairwise(times_s[done] for done in sorted(times_s))
        ]
        return {"steps_per_s": 1 / statistics.median(durations_s[1:]), "first_step_s": times_s[1] - start_s}

    def time_places(self, jobs: int, early: int, late: int) -> Measurement:
        """Time steps at an early and a late position in turn, the network alone, with caches that are full.

        Full, because memory that was never written is read from a single page.
        """
        decoders = {position: self._make_decoder(2 * jobs, late + STEPS_PER_PLACE) for position in (early, late)}
        times_s: dict[int, list[float]] = {early: [], late: []}
        tokens = np.zeros((2 * jobs, self._config.codebooks), dtype=np.int32)
        for position, decoder in decoders.items():
            decoder.step(tokens, np.full(2 * jobs, position, dtype=np.int32))  # makes room, and compiles
            self._fill(decoder)
        for step in range(STEPS_PER_PLACE):
            for position, decoder in decoders.items():
                start_s = time.perf_counter()
                decoder.step(tokens, np.full(2 * jobs, position + step, dtype=np.int32))
                times_s[position].append(time.perf_counter() - start_s)
        return {
            name: {
                "step_s": statistics.median(times_s[position][1:]),
                "capacity": decoders[position]._keys.capacity,
                "cache_bytes": count_cache_bytes(self._config, 2 * jobs, decoders[position]._keys.capacity),
            }
            for name, position in (("early", early), ("late", late))
        }

    def time_reading(self) -> Measurement:
        """Let one row read the codes of a clip; a guided job has two."""
        codes = self._draw_codes(CLIP_FRAMES).astype(np.int32)
        times_s = []
        for _ in range(REPEATS + 1):
            decoder = self._make_decoder(2, CLIP_FRAMES + 1)
            start_s = time.perf_counter()
            for first in range(0, CLIP_FRAMES, decoder.chunk):
                decoder.feed(0, codes[:, first : first + decoder.chunk], first)
            times_s.append(time.perf_counter() - start_s)
        return {"frames_per_s": CLIP_FRAMES / statistics.median(times_s[1:])}

    def time_decoding(self) -> Measurement:
        """Let EnCodec decode 10 s; the first time, which may compile, is told apart."""
        codes = self._draw_codes(CLIP_FRAMES)
        times_s = []
        for _ in range(REPEATS + 1):
            start_s = time.perf_counter()
            self._composer._codec.decode(codes)
            times_s.append(time.perf_counter() - start_s)
        return {"decode_s": statistics.median(times_s[1:]), "first_s": times_s[0]}

    def time_compiling(self) -> Measurement:
        """Compile a guided job's step at each capacity that a job of 30 s comes through, for a text not met before."""
        from worker.engines.musicgen.network.shapes import CAPACITIES

        marks_s: list[float] = []
        decoder = self._make_decoder(2, CAPACITIES[-1], lambda *, compiling: marks_s.append(time.perf_counter()))  # noqa: ARG005
        tokens = np.zeros((2, self._config.codebooks), dtype=np.int32)
        compile_s = {}
        for capacity in CAPACITIES[:-1]:
            marks_s.clear()
            decoder.step(tokens, np.full(2, capacity - 1, dtype=np.int32))
            before_s, after_s = marks_s
            compile_s[str(capacity)] = after_s - before_s
        return {"compile_s": compile_s}

    def _make_decoder(self, rows: int, length: int, announce: Callable[..., None] = lambda *, compiling: None) -> Any:  # noqa: ARG005
        from worker.engines.musicgen.network.rows import NetworkDecoder

        decoder = NetworkDecoder(self._composer._compiled, rows, length, TEXT_TOKENS, announce)
        states = self._random.standard_normal((TEXT_TOKENS, self._config.hidden), dtype=np.float32)
        for row in range(rows):
            decoder.admit(row, None if row % 2 else TextStates(states))
        return decoder

    def _fill(self, decoder: Any) -> None:
        from mindspore import Tensor

        capacity = decoder._keys.capacity
        values = Tensor.from_numpy(self._random.standard_normal((capacity, self._config.hidden), dtype=np.float32))
        places = np.arange(capacity, dtype=np.int32)
        for cache in (decoder._keys, decoder._values):
            for layer, row in itertools.product(range(self._config.layers), range(decoder.rows)):
                cache.write(layer, np.full(capacity, row, dtype=np.int32), places, values)

    def _draw_codes(self, frames: int) -> Codes:
        codes: Codes = self._random.integers(
            self._config.vocabulary, size=(self._config.codebooks, frames), dtype=np.int16
        )
        return codes


def main() -> None:
    """Load, and measure what is asked for until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.native_steps")
    parser.add_argument("folder", type=Path)
    bench = Bench(parser.parse_args().folder)
    write(load_s=time.time() - psutil.Process().create_time())
    for line in sys.stdin:
        request = json.loads(line)
        measure = getattr(bench, request.pop("measure"))
        write(**measure(**request))


def write(**measurement: object) -> None:
    """Print a measurement, with the peak memory so far."""
    sys.stdout.write(json.dumps(measurement | {"peak_bytes": read_peak_bytes()}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
