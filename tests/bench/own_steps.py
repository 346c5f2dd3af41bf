"""How fast the service's own MusicGen steps, reads and decodes: a ``companion`` in the application's environment.

It takes a model in the layout of the hub::

    echo '{"measure": "time_jobs", "jobs": 4}' | python -m tests.bench.own_steps FOLDER KEPT openvino int8
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
from tests.bench.own_model import MAX_SLOTS, OPENVINO, SAMPLING, draw_known, load_composer
from tests.bench.positions import CODEC_FRAMES, PLACES, PROMPT, SIDE_STEPS, STEPS, find_start
from tests.bench.reserved_slots import LastingRows
from tests.bench.serving import serve, write
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
    """A loaded model, and what can be measured of it."""

    def __init__(self, composer: MusicgenPipeline) -> None:
        self._composer = composer
        self._config = composer.config.decoder
        self._decoder = composer.model.decoder
        self._text = composer.encode_text(PROMPT)
        self._random = np.random.default_rng(0)
        self._batches: dict[int, BatchScheduler] = {}

    @property
    def text_tokens(self) -> int:
        """How many tokens the prompt has."""
        return 0 if self._text is None else len(self._text.states)

    def time_first_step(self) -> Measurement:
        """Encode the prompt, and let a guided job make its first step: what a user waits for after loading."""
        start_s = time.perf_counter()
        self._composer.encode_text(PROMPT)
        self.time_steps(self._composer.scheduler, [self.lay_track(1, 1, 0)])
        return {"first_step_s": time.perf_counter() - start_s}

    def time_windows(self) -> Measurement:
        """Time the steps of one guided job around each of ``PLACES``: the whole loop, sampling included."""
        step_s = {}
        for place in PLACES:
            if place not in self._batches:
                self._batches[place] = BatchScheduler(LastingRows(self._find_decoder()), BatchLimits(MAX_SLOTS, 2**40))
            track = self.lay_track(find_start(place) + 1, 1 + STEPS, 0)
            step_s[place] = statistics.median(self.time_steps(self._batches[place], [track]))
        return {"step_s": step_s}

    def time_jobs(self, jobs: int) -> Measurement:
        """Time the first steps of so many guided jobs at once."""
        tracks = [self.lay_track(1, 1 + SIDE_STEPS, seed) for seed in range(jobs)]
        return {"step_s": statistics.median(self.time_steps(self._composer.scheduler, tracks))}

    def time_steps(self, batch: BatchScheduler, tracks: Sequence[TokenSequence]) -> list[float]:
        """Generate tracks that begin at one position; return the duration of each step but the first, in seconds.

        With the first, the batch reads what is known.
        """
        times_s: dict[int, float] = {}

        def note_time() -> None:
            times_s.setdefault(tracks[0].known_length, time.perf_counter())

        def keep() -> None:
            for track in tracks:
                track.tokens[:, : track.known_length].copy()

        batch.generate(tracks, note_time, lambda: None, keep)
        durations_s = [after - before for before, after in itertools.pairwise(times_s[key] for key in sorted(times_s))]
        return durations_s[1:]

    def time_decoding(self) -> Measurement:
        """Let EnCodec decode 10 s."""
        start_s = time.perf_counter()
        self._composer.model.codec.decode(self._draw_codes(CODEC_FRAMES), lambda: None)
        return {"decode_s": time.perf_counter() - start_s}

    def time_reading(self) -> Measurement:
        """Let one row read the codes of a clip; a guided job has two."""
        codes = self._draw_codes(CODEC_FRAMES).astype(np.int32)
        times_s = []
        for _ in range(REPEATS + 1):
            row = self._decoder.admit(self._text, CODEC_FRAMES)
            start_s = time.perf_counter()
            for first in range(0, CODEC_FRAMES, self._decoder.max_chunk):
                self._decoder.feed(row, codes[:, first : first + self._decoder.max_chunk], first)
            times_s.append(time.perf_counter() - start_s)
            self._decoder.drop(row)
        return {"frames_per_s": CODEC_FRAMES / statistics.median(times_s[1:])}

    def time_places(self, jobs: int, early: int, late: int) -> Measurement:
        """Time MindSpore's steps at an early and a late position in turn, the network alone, with full caches.

        Full, because memory that was never written is read from a single page.
        """
        decoders = {position: self._make_full_decoder(jobs, position) for position in (early, late)}
        times_s: dict[int, list[float]] = {early: [], late: []}
        tokens = np.zeros((2 * jobs, self._config.codebooks), dtype=np.int32)
        for step in range(STEPS):
            for position, (decoder, rows) in decoders.items():
                start_s = time.perf_counter()
                decoder.step(rows, tokens, np.full(2 * jobs, position + step, dtype=np.int32))
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
        """Let a guided job read drawn tokens one by one, and store the logits that decide."""
        tokens = draw_known(positions, self._config, 0)
        rows = [self._decoder.admit(text, positions) for text in (self._text, None)]
        guided = []
        for position, column in enumerate(tokens.T):
            logits = self._decoder.step(rows, np.stack([column] * 2), np.full(2, position, dtype=np.int32))
            conditional, unconditional = logits
            guided.append(guide(conditional, unconditional, SAMPLING.guidance_scale))
        for row in rows:
            self._decoder.drop(row)
        np.save(path, np.stack(guided))
        return {"positions": positions}

    def lay_track(self, known: int, generated: int, seed: int) -> TokenSequence:
        """Lay out a sample that is known up to some position, the start token's included."""
        pattern = delay.build_pattern(None, known + generated - 1, self._config)
        return TokenSequence(pattern, self._text, SAMPLING, seed, draw_known(known, self._config, seed))

    def _find_decoder(self) -> Decoder:
        """Return a decoder for rows that stay: MindSpore computes all of a decoder's rows in each step."""
        if self._composer.backend == OPENVINO:
            return self._decoder
        decoder: Decoder = self._make_network_decoder()
        return decoder

    def _make_network_decoder(self) -> Any:
        from worker.engines.musicgen.backends.mindspore.decoder import MindSporeDecoder  # loads MindSpore

        decoder: Any = self._decoder
        return MindSporeDecoder(decoder._cells)

    def _make_full_decoder(self, jobs: int, position: int) -> tuple[Any, list[int]]:
        from mindspore import Tensor

        decoder = self._make_network_decoder()
        rows = [decoder.admit(text, position + STEPS) for _ in range(jobs) for text in (self._text, None)]
        tokens = np.zeros((len(rows), self._config.codebooks), dtype=np.int32)
        decoder.step(rows, tokens, np.full(len(rows), position + STEPS - 1, dtype=np.int32))  # makes room, and compiles
        places = np.arange(decoder._keys.capacity, dtype=np.int32)
        drawn = self._random.standard_normal((len(places), self._config.hidden), dtype=np.float32)
        values = Tensor.from_numpy(drawn)
        for cache in (decoder._keys, decoder._values):
            for layer, slot in itertools.product(range(self._config.layers), range(len(rows))):
                cache.write(layer, np.full(len(places), slot, dtype=np.int32), places, values)
        return decoder, rows

    def _draw_codes(self, frames: int) -> Codes:
        codes: Codes = self._random.integers(
            self._config.vocabulary, size=(self._config.codebooks, frames), dtype=np.int16
        )
        return codes


def main() -> None:
    """Load, and measure what is asked for until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.own_steps")
    parser.add_argument("folder", type=Path, help="the model's")
    parser.add_argument("kept", type=Path, help="where compiled graphs are kept")
    parser.add_argument("engine")
    parser.add_argument("precision")
    arguments = parser.parse_args()
    composer = load_composer(arguments.folder, arguments.engine, arguments.precision, arguments.kept)
    load_s = time.time() - psutil.Process().create_time()
    bench = OwnBench(composer)
    write(load_s=load_s, text_tokens=bench.text_tokens)
    serve(bench)


if __name__ == "__main__":
    main()
