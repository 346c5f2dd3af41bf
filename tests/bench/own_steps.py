"""How fast the service's own MusicGen decodes and reads known tokens: a program that runs in a ``MeasuredProcess``.

The program runs in the environment of the application, and reads a model in the layout of the Hugging Face hub::

    echo '{"measurement": "time_jobs", "jobs": 4}' | \\
        python -m tests.bench.own_steps FOLDER COMPILED_FOLDER openvino int8
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from tests.bench.memory_reads import count_cache_bytes
from tests.bench.own_model import MAX_SLOTS, OPENVINO, SAMPLING, draw_known, load_pipeline
from tests.bench.reserved_slots import ReservedSlotsDecoder
from tests.bench.serving import print_figures, serve_measurements
from tests.bench.workload import BATCH_STEPS, CODEC_FRAMES, PROMPT, STEPS, TIMED_POSITIONS, find_start
from worker.engines.musicgen.decoding import delay
from worker.engines.musicgen.decoding.decoder import Decoder
from worker.engines.musicgen.decoding.sampling import guide
from worker.engines.musicgen.decoding.scheduler import BatchLimits, BatchScheduler
from worker.engines.musicgen.decoding.sequence import TokenSequence
from worker.engines.musicgen.pipeline import MusicgenPipeline
from worker.engines.musicgen.request import Codes

Measurement = dict[str, Any]

REPEATS: Final = 3


class OwnBench:
    """A loaded model, with a method for each measurement."""

    def __init__(self, pipeline: MusicgenPipeline) -> None:
        self._pipeline = pipeline
        self._config = pipeline.config.decoder
        self._decoder = pipeline.model.decoder
        self._text = pipeline.encode_text(PROMPT)
        self._random = np.random.default_rng(0)
        self._schedulers: dict[int, BatchScheduler] = {}
        """For each timed position, a scheduler whose decoder keeps the slots and their caches between repeats."""

    @property
    def text_tokens(self) -> int:
        """How many tokens the prompt has."""
        return 0 if self._text is None else len(self._text.states)

    def time_first_step(self) -> Measurement:
        """Time the encoding of the prompt and the first step of a guided job.

        After the model has been loaded, a user waits this long for the first tokens.
        """
        start_s = time.perf_counter()
        self._pipeline.encode_text(PROMPT)
        self.time_steps(self._pipeline.scheduler, [self.build_sequence(1, 1, 0)])
        return {"first_step_s": time.perf_counter() - start_s, "text_tokens": self.text_tokens}

    def time_positions(self) -> Measurement:
        """Time the steps of one guided job around each of ``TIMED_POSITIONS``: the whole decode loop, with sampling."""
        step_s = {}
        for position in TIMED_POSITIONS:
            if position not in self._schedulers:
                decoder = ReservedSlotsDecoder(self._make_separate_decoder())
                self._schedulers[position] = BatchScheduler(decoder, BatchLimits(MAX_SLOTS, 2**40))
            sequence = self.build_sequence(find_start(position) + 1, 1 + STEPS, 0)
            step_s[position] = statistics.median(self.time_steps(self._schedulers[position], [sequence]))
        return {"step_s": step_s}

    def time_jobs(self, jobs: int) -> Measurement:
        """Time the first steps of several guided jobs in one batch."""
        sequences = [self.build_sequence(1, 1 + BATCH_STEPS, seed) for seed in range(jobs)]
        return {"step_s": statistics.median(self.time_steps(self._pipeline.scheduler, sequences))}

    def time_steps(self, scheduler: BatchScheduler, sequences: Sequence[TokenSequence]) -> list[float]:
        """Generate sequences that start at the same position; return the durations of the steps, in seconds.

        The first step is left out, because its duration includes the reading of the known positions.
        """
        times_s: dict[int, float] = {}

        def record_time() -> None:
            times_s.setdefault(sequences[0].known_length, time.perf_counter())

        def copy_tokens() -> None:
            for sequence in sequences:
                sequence.tokens[:, : sequence.known_length].copy()

        scheduler.generate(sequences, record_time, lambda: None, copy_tokens)
        durations_s = [after - before for before, after in itertools.pairwise(times_s[key] for key in sorted(times_s))]
        return durations_s[1:]

    def time_decoding(self) -> Measurement:
        """Time how long EnCodec takes to decode 10 s."""
        start_s = time.perf_counter()
        self._pipeline.model.codec.decode(self._draw_codes(CODEC_FRAMES), lambda: None)
        return {"decode_s": time.perf_counter() - start_s}

    def time_prefill(self) -> Measurement:
        """Time how fast one slot reads the codes of a clip; a guided job has two slots."""
        codes = self._draw_codes(CODEC_FRAMES).astype(np.int32)
        times_s = []
        for _ in range(REPEATS + 1):
            slot = self._decoder.admit(self._text, CODEC_FRAMES)
            start_s = time.perf_counter()
            for first in range(0, CODEC_FRAMES, self._decoder.max_chunk):
                self._decoder.feed(slot, codes[:, first : first + self._decoder.max_chunk], first)
            times_s.append(time.perf_counter() - start_s)
            self._decoder.drop(slot)
        return {"frames_per_s": CODEC_FRAMES / statistics.median(times_s[1:])}

    def time_full_caches(self, jobs: int, early: int, late: int) -> Measurement:
        """Time steps of MindSpore at an early and at a late position in turn: the network alone, with full caches.

        Before the timed steps, random values are written into the whole caches. Otherwise, the reading would be too
        fast, because the kernel maps all memory that was never written to one and the same page.
        """
        decoders = {position: self._make_full_decoder(jobs, position) for position in (early, late)}
        times_s: dict[int, list[float]] = {early: [], late: []}
        tokens = np.zeros((2 * jobs, self._config.codebooks), dtype=np.int32)
        for step in range(STEPS):
            for position, (decoder, slots) in decoders.items():
                start_s = time.perf_counter()
                decoder.step(slots, tokens, np.full(2 * jobs, position + step, dtype=np.int32))
                times_s[position].append(time.perf_counter() - start_s)
        capacities = {position: decoder._keys.capacity for position, (decoder, _) in decoders.items()}
        return {
            name: {
                "step_s": statistics.median(times_s[position]),
                "capacity": capacities[position],
                "cache_bytes": count_cache_bytes(self._config, 2 * jobs, capacities[position]),
            }
            for name, position in (("early", early), ("late", late))
        }

    def store_logits(self, path: str, positions: int) -> Measurement:
        """Read random tokens one by one, as a guided job does, and store the guided logits of each position."""
        tokens = draw_known(positions, self._config, 0)
        slots = [self._decoder.admit(text, positions) for text in (self._text, None)]
        guided = []
        for position, column in enumerate(tokens.T):
            logits = self._decoder.step(slots, np.stack([column] * 2), np.full(2, position, dtype=np.int32))
            conditional, unconditional = logits
            guided.append(guide(conditional, unconditional, SAMPLING.guidance_scale))
        for slot in slots:
            self._decoder.drop(slot)
        np.save(path, np.stack(guided))
        return {"positions": positions}

    def build_sequence(self, known: int, generated: int, seed: int) -> TokenSequence:
        """Build a sequence whose first ``known`` positions, including the start token, have random tokens.

        The next ``generated`` positions are to be generated.
        """
        pattern = delay.build_pattern(None, known + generated - 1, self._config)
        return TokenSequence(pattern, self._text, SAMPLING, seed, draw_known(known, self._config, seed))

    def _make_separate_decoder(self) -> Decoder:
        """Return a decoder for slots that are kept between repeats.

        With MindSpore, this is a new decoder. In each step, MindSpore computes all slots of a decoder, so that kept
        slots would slow down the steps of other slots in the same decoder.
        """
        if self._pipeline.backend == OPENVINO:
            return self._decoder
        decoder: Decoder = self._make_mindspore_decoder()
        return decoder

    def _make_mindspore_decoder(self) -> Any:
        from worker.engines.musicgen.backends.mindspore.decoder import MindSporeDecoder  # loads MindSpore

        decoder: Any = self._decoder
        return MindSporeDecoder(decoder._cells)

    def _make_full_decoder(self, jobs: int, position: int) -> tuple[Any, list[int]]:
        from mindspore import Tensor

        decoder = self._make_mindspore_decoder()
        slots = [decoder.admit(text, position + STEPS) for _ in range(jobs) for text in (self._text, None)]
        tokens = np.zeros((len(slots), self._config.codebooks), dtype=np.int32)
        last = np.full(len(slots), position + STEPS - 1, dtype=np.int32)
        decoder.step(slots, tokens, last)  # gives the caches their size, and compiles
        positions = np.arange(decoder._keys.capacity, dtype=np.int32)
        drawn = self._random.standard_normal((len(positions), self._config.hidden), dtype=np.float32)
        values = Tensor.from_numpy(drawn)
        for cache in (decoder._keys, decoder._values):
            for layer, row in itertools.product(range(self._config.layers), range(len(slots))):
                cache.write(layer, np.full(len(positions), row, dtype=np.int32), positions, values)
        return decoder, slots

    def _draw_codes(self, frames: int) -> Codes:
        codes: Codes = self._random.integers(
            self._config.vocabulary, size=(self._config.codebooks, frames), dtype=np.int16
        )
        return codes


def main() -> None:
    """Load the model, and run the requested measurements until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.own_steps")
    parser.add_argument("folder", type=Path, help="the model's folder")
    parser.add_argument("compiled_folder", type=Path, help="for compiled graphs")
    parser.add_argument("backend", help="openvino or mindspore")
    parser.add_argument("precision")
    chosen = parser.parse_args()
    pipeline = load_pipeline(chosen.folder, chosen.backend, chosen.precision, chosen.compiled_folder)
    load_s = time.time() - psutil.Process().create_time()
    bench = OwnBench(pipeline)
    print_figures(load_s=load_s)
    serve_measurements(bench)


if __name__ == "__main__":
    main()
