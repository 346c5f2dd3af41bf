"""How fast transformers on PyTorch generates with guidance, the peer of the MusicGen engine: a ``companion``.

It runs in an environment of its own, see ``tests.references.make_musicgen``, with a model in the layout of the hub::

    echo '{"measure": "time_jobs", "jobs": 4}' | /tmp/references/bin/python -m tests.bench.peer_musicgen FOLDER bfloat16

Steps are timed one by one, from choice to choice, so that neither the text nor the audio counts.
"""

import argparse
import itertools
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.bench.positions import (
    CODEC_FRAMES,
    GUIDANCE_SCALE,
    PLACES,
    PROMPT,
    SIDE_STEPS,
    STEPS,
    TEMPERATURE,
    TOP_K,
    find_start,
)
from tests.bench.serving import serve, write

Measurement = dict[str, Any]


class EnoughError(Exception):
    """All that is to be timed was."""


class Clock(transformers.LogitsProcessor):  # type: ignore[misc] # untyped here
    """Notes when each token is chosen, and ends the generation after so many steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._times_s: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        del input_ids
        self._times_s.append(time.perf_counter())
        if len(self._times_s) > self._steps:
            raise EnoughError
        return scores

    @property
    def step_s(self) -> float:
        """The median step; what precedes the first choice is none."""
        return statistics.median(after - before for before, after in itertools.pairwise(self._times_s))


class PeerBench:
    """A loaded model, and what can be measured of it."""

    def __init__(self, folder: Path, precision: str) -> None:
        self._model: Any = transformers.MusicgenForConditionalGeneration.from_pretrained(
            folder, torch_dtype=getattr(torch, precision)
        ).eval()
        self._processor = transformers.AutoProcessor.from_pretrained(folder)

    def time_windows(self) -> Measurement:
        """Time the steps of one guided job around each of ``PLACES``; the codes before are read at once."""
        return {"step_s": {place: self._time_steps(1, find_start(place), STEPS) for place in PLACES}}

    def time_jobs(self, jobs: int) -> Measurement:
        """Time the first steps of so many guided jobs at once."""
        return {"step_s": self._time_steps(jobs, 0, SIDE_STEPS)}

    def time_decoding(self) -> Measurement:
        """Let EnCodec decode 10 s."""
        config = self._model.config.audio_encoder
        codes = torch.randint(
            config.codebook_size, (1, 1, self._model.audio_encoder.quantizer.num_quantizers, CODEC_FRAMES)
        )
        start_s = time.perf_counter()
        self._model.audio_encoder.decode(codes, [None])
        return {"decode_s": time.perf_counter() - start_s}

    def _time_steps(self, jobs: int, frames: int, steps: int) -> float:
        clock = Clock(steps)
        inputs = dict(self._processor(text=[PROMPT] * jobs, padding=True, return_tensors="pt"))
        if frames:
            decoder = self._model.config.decoder
            inputs["decoder_input_ids"] = torch.randint(decoder.vocab_size, (jobs * decoder.num_codebooks, frames))
        try:
            self._model.generate(
                **inputs,
                max_new_tokens=steps + decoder_delays(self._model),
                do_sample=True,
                guidance_scale=GUIDANCE_SCALE,
                temperature=TEMPERATURE,
                top_k=TOP_K,
                logits_processor=transformers.LogitsProcessorList([clock]),
            )
        except EnoughError:
            return clock.step_s
        raise RuntimeError("transformers has generated less than it was asked for")


def decoder_delays(model: Any) -> int:
    """Count the steps by which the last codebook ends late."""
    return int(model.config.decoder.num_codebooks)


def main() -> None:
    """Load, and measure what is asked for until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peer_musicgen")
    parser.add_argument("folder", type=Path, help="of the model")
    parser.add_argument("precision", choices=("float32", "bfloat16"))
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_grad_enabled(False)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    start_s = time.perf_counter()
    bench = PeerBench(arguments.folder, arguments.precision)
    write(
        load_s=time.perf_counter() - start_s,
        versions=f"transformers {transformers.__version__}, torch {torch.__version__}",
    )
    serve(bench)


if __name__ == "__main__":
    main()
