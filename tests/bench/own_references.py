"""By how much the logits and greedy tokens of the models of ``tests/references`` change in lower precisions.

This program runs in the environment of the application, and prints one JSON object::

    python -m tests.bench.own_references int8 int4 bfloat16
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np

from tests.bench.logits import Floats, LogitDifference
from tests.bench.own_model import OPENVINO, load_pipeline
from tests.bench.serving import print_figures
from tests.references.musicgen_cases import CASES, Case, Model
from worker.engines.musicgen.decoding.sampling import guide
from worker.engines.musicgen.pipeline import MusicgenPipeline

EXACT: Final = "float32"


def compute_logits(pipeline: MusicgenPipeline, case: Case) -> Floats:
    """Compute the logits of the samples of a case while the decoder reads the tokens of the reference.

    Returns
    -------
    The logits from which tokens are chosen: shape (samples * positions, codebooks, vocabulary). All positions of
    one sample are followed by those of the next sample. If the case is guided, the logits are the guided logits.
    """
    decoder = pipeline.model.decoder
    logits: list[Floats] = []
    for prompt, tokens in zip(case.prompts, case.read()["tokens"].astype(np.int32), strict=True):
        text = pipeline.encode_text(prompt)
        texts = (text, None) if case.guided else (text,)
        slots = [decoder.admit(slot_text, tokens.shape[1]) for slot_text in texts]
        for position, column in enumerate(tokens.T[:-1]):
            positions = np.full(len(slots), position, dtype=np.int32)
            own = decoder.step(slots, np.stack([column] * len(slots)), positions)
            logits.append(guide(own[0], own[-1], case.guidance_scale) if case.guided else own[0].copy())
        for slot in slots:
            decoder.drop(slot)
    return np.stack(logits)


def compare(model: Model, precisions: Sequence[str]) -> dict[str, list[LogitDifference]]:
    """Compare each precision with float32, in all cases of a model."""
    cases = [case for case in CASES if case.model == model]
    differences: dict[str, list[LogitDifference]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="mj-bench-") as home:
        folder = Path(home, "model")
        model.write(folder)
        exact = [compute_logits(_load(folder, EXACT), case) for case in cases]
        for precision in precisions:
            pipeline = _load(folder, precision)
            for case, logits in zip(cases, exact, strict=True):
                differences[precision].append(LogitDifference.measure(compute_logits(pipeline, case), logits))
    return differences


def _load(folder: Path, precision: str) -> MusicgenPipeline:
    return load_pipeline(folder, OPENVINO, precision, folder / "compiled")


def main() -> None:
    """Compare the precisions with float32, and print the averages over all cases."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.own_references")
    parser.add_argument("precisions", nargs="+")
    precisions: list[str] = parser.parse_args().precisions
    gathered: dict[str, list[LogitDifference]] = defaultdict(list)
    for model in dict.fromkeys(case.model for case in CASES):
        for precision, differences in compare(model, precisions).items():
            gathered[precision] += differences
    averages = {precision: asdict(LogitDifference.average(all_cases)) for precision, all_cases in gathered.items()}
    print_figures(cases=len(CASES), **averages)


if __name__ == "__main__":
    main()
