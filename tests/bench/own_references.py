"""How far fewer bits move the logits of the tiny models of ``tests/references``, and how many of their greedy tokens.

It runs in the application's environment, and prints one JSON object::

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

from tests.bench.logits import Distance, Floats
from tests.bench.own_model import OPENVINO, load_composer
from tests.bench.serving import write
from tests.references.musicgen_cases import CASES, Case, Model
from worker.engines.musicgen.decoding.sampling import guide
from worker.engines.musicgen.pipeline import MusicgenPipeline

EXACT: Final = "float32"


def compute_logits(composer: MusicgenPipeline, case: Case) -> Floats:
    """Let each sample of a case read the reference's tokens.

    Returns
    -------
    The logits that decide, one sample after the other: shape (samples * positions, codebooks, vocabulary).
    """
    decoder = composer.model.decoder
    logits: list[Floats] = []
    for prompt, tokens in zip(case.prompts, case.read()["tokens"].astype(np.int32), strict=True):
        texts = (composer.encode_text(prompt), None) if case.guided else (composer.encode_text(prompt),)
        rows = [decoder.admit(text, tokens.shape[1]) for text in texts]
        for position, column in enumerate(tokens.T[:-1]):
            places = np.full(len(rows), position, dtype=np.int32)
            own = decoder.step(rows, np.stack([column] * len(rows)), places)
            logits.append(guide(own[0], own[-1], case.guidance_scale) if case.guided else own[0].copy())
        for row in rows:
            decoder.drop(row)
    return np.stack(logits)


def compare(model: Model, precisions: Sequence[str]) -> dict[str, list[Distance]]:
    """Compare precisions with the exact one, in all cases of a model."""
    cases = [case for case in CASES if case.model == model]
    distances: dict[str, list[Distance]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="mj-bench-") as home:
        folder = Path(home, "model")
        model.write(folder)
        exact = [compute_logits(_load(folder, EXACT), case) for case in cases]
        for precision in precisions:
            composer = _load(folder, precision)
            for case, logits in zip(cases, exact, strict=True):
                distances[precision].append(Distance.measure(compute_logits(composer, case), logits))
    return distances


def _load(folder: Path, precision: str) -> MusicgenPipeline:
    return load_composer(folder, OPENVINO, precision, folder / "kept")


def main() -> None:
    """Compare, and print the averages over all cases."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.own_references")
    parser.add_argument("precisions", nargs="+")
    precisions: list[str] = parser.parse_args().precisions
    gathered: dict[str, list[Distance]] = defaultdict(list)
    for model in dict.fromkeys(case.model for case in CASES):
        for precision, distances in compare(model, precisions).items():
            gathered[precision] += distances
    write(cases=len(CASES), **{name: asdict(Distance.average(distances)) for name, distances in gathered.items()})


if __name__ == "__main__":
    main()
