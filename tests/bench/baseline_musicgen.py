"""How fast transformers on PyTorch generates with guidance: a program that runs in a ``MeasuredProcess``.

The MusicGen engine is compared with this baseline. The program runs in an environment of its own, see
``baselines.txt``, and reads a model in the layout of the Hugging Face hub::

    echo '{"measurement": "time_jobs", "jobs": 4}' | \\
        .venv-baselines/bin/python -m tests.bench.baseline_musicgen FOLDER bfloat16

Each step is timed from one choice of tokens to the next choice. So the times contain neither the encoding of the text
nor the decoding of the audio.
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

from tests.bench.serving import print_figures, serve_measurements
from tests.bench.workload import (
    BATCH_STEPS,
    CODEC_FRAMES,
    GUIDANCE_SCALE,
    PROMPT,
    STEPS,
    TEMPERATURE,
    TIMED_POSITIONS,
    TOP_K,
    find_start,
)

Measurement = dict[str, Any]


class StepsTimedError(Exception):
    """Raised to end the generation when all steps have been timed."""


class StepTimer(transformers.LogitsProcessor):  # type: ignore[misc] # untyped here
    """Records when the tokens of each step are chosen, and ends the generation after ``steps`` timed steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._times_s: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        del input_ids
        self._times_s.append(time.perf_counter())
        if len(self._times_s) > self._steps:
            raise StepsTimedError
        return scores

    @property
    def step_s(self) -> float:
        """The median duration of a step; the time before the first choice of tokens is not included."""
        return statistics.median(after - before for before, after in itertools.pairwise(self._times_s))


class TransformersBench:
    """A loaded model, with a method for each measurement."""

    def __init__(self, folder: Path, precision: str) -> None:
        self._model: Any = transformers.MusicgenForConditionalGeneration.from_pretrained(
            folder, torch_dtype=getattr(torch, precision)
        ).eval()
        self._processor = transformers.AutoProcessor.from_pretrained(folder)

    def time_positions(self) -> Measurement:
        """Time the steps of one guided job around each of ``TIMED_POSITIONS``.

        The codes before the timed steps are read in a single step, which is not timed.
        """
        return {"step_s": {position: self._time_steps(1, find_start(position), STEPS) for position in TIMED_POSITIONS}}

    def time_jobs(self, jobs: int) -> Measurement:
        """Time the first steps of several guided jobs in one batch."""
        return {"step_s": self._time_steps(jobs, 0, BATCH_STEPS)}

    def time_decoding(self) -> Measurement:
        """Time how long EnCodec takes to decode 10 s."""
        config = self._model.config.audio_encoder
        codes = torch.randint(
            config.codebook_size, (1, 1, self._model.audio_encoder.quantizer.num_quantizers, CODEC_FRAMES)
        )
        start_s = time.perf_counter()
        self._model.audio_encoder.decode(codes, [None])
        return {"decode_s": time.perf_counter() - start_s}

    def _time_steps(self, jobs: int, frames: int, steps: int) -> float:
        timer = StepTimer(steps)
        inputs = dict(self._processor(text=[PROMPT] * jobs, padding=True, return_tensors="pt"))
        if frames:
            decoder = self._model.config.decoder
            inputs["decoder_input_ids"] = torch.randint(decoder.vocab_size, (jobs * decoder.num_codebooks, frames))
        try:
            self._model.generate(
                **inputs,
                max_new_tokens=steps + count_delay_steps(self._model),
                do_sample=True,
                guidance_scale=GUIDANCE_SCALE,
                temperature=TEMPERATURE,
                top_k=TOP_K,
                logits_processor=transformers.LogitsProcessorList([timer]),
            )
        except StepsTimedError:
            return timer.step_s
        raise RuntimeError("transformers generated fewer steps than requested")


def count_delay_steps(model: Any) -> int:
    """Return the maximum number of steps by which the delay pattern extends a sequence."""
    return int(model.config.decoder.num_codebooks)


def main() -> None:
    """Load the model, and run the requested measurements until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.baseline_musicgen")
    parser.add_argument("folder", type=Path, help="the model's folder")
    parser.add_argument("precision", choices=("float32", "bfloat16"))
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_grad_enabled(False)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    start_s = time.perf_counter()
    bench = TransformersBench(arguments.folder, arguments.precision)
    print_figures(
        load_s=time.perf_counter() - start_s,
        versions=f"transformers {transformers.__version__}, torch {torch.__version__}",
    )
    serve_measurements(bench)


if __name__ == "__main__":
    main()
