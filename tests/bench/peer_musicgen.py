"""How fast transformers on PyTorch generates with guidance: the peer of the MusicGen engine.

It runs in an environment of its own, see ``tests.references.make_musicgen``, with a model in the layout of the hub::

    /tmp/references/bin/python -m tests.bench.peer_musicgen FOLDER --precision bfloat16 --jobs 1 4 8 --steps 24

and prints one JSON object per measurement. Steps are timed one by one, from choice to choice, so that neither the
text nor the audio counts; the first reads the text's states into the cache and is left out. ``peak_bytes`` is the
process's highest resident size until then, the model included: a process measures one precision, and few jobs before
many.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

import torch
import transformers

PROMPT: Final = "80s pop track with bassy drums and synth"
GUIDANCE_SCALE: Final = 3.0
WARM_UP_STEPS: Final = 4
DECODED_FRAMES: Final = 500
DECODE_REPEATS: Final = 3


class Clock(transformers.LogitsProcessor):  # type: ignore[misc] # untyped here
    """Notes when each token is chosen."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        del input_ids
        self.times_s.append(time.perf_counter())
        return scores


def time_steps(model: Any, processor: Any, jobs: int, steps: int) -> list[float]:
    """Generate for so many jobs at once; return the duration of each step, in seconds."""
    clock = Clock()
    model.generate(
        **processor(text=[PROMPT] * jobs, padding=True, return_tensors="pt"),
        max_new_tokens=steps,
        do_sample=True,
        guidance_scale=GUIDANCE_SCALE,
        logits_processor=transformers.LogitsProcessorList([clock]),
    )
    return [after - before for before, after in zip(clock.times_s, clock.times_s[1:], strict=False)]


def time_decoding(model: Any) -> float:
    """Decode 500 frames, 10 s of the published models' audio, a few times; return the median, in seconds."""
    config = model.config.audio_encoder
    shape = (1, 1, model.audio_encoder.quantizer.num_quantizers, DECODED_FRAMES)
    codes = torch.randint(config.codebook_size, shape)
    times_s = []
    for _ in range(DECODE_REPEATS):
        start_s = time.perf_counter()
        model.audio_encoder.decode(codes, [None])
        times_s.append(time.perf_counter() - start_s)
    return statistics.median(times_s)


def write(**measurement: object) -> None:
    """Print a measurement, with the peak memory so far."""
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps(measurement | {"peak_bytes": peak_bytes}) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peer_musicgen")
    parser.add_argument("folder", type=Path, help="of the model")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--steps", type=int, default=24)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_grad_enabled(False)
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    about = {"peer": f"transformers {transformers.__version__}, torch {torch.__version__}", "threads": threads}
    about["precision"] = arguments.precision

    start_s = time.perf_counter()
    model = transformers.MusicgenForConditionalGeneration.from_pretrained(
        arguments.folder, torch_dtype=getattr(torch, arguments.precision)
    ).eval()
    processor = transformers.AutoProcessor.from_pretrained(arguments.folder)
    write(**about, what="load", load_s=time.perf_counter() - start_s)
    for jobs in sorted(arguments.jobs):
        time_steps(model, processor, jobs, WARM_UP_STEPS)
        steps_per_s = 1 / statistics.median(time_steps(model, processor, jobs, arguments.steps))
        write(**about, what="generate", jobs=jobs, steps_per_s=steps_per_s, job_steps_per_s=jobs * steps_per_s)
    write(**about, what="decode", frames=DECODED_FRAMES, decode_s=time_decoding(model))


if __name__ == "__main__":
    main()
