"""Compare an engine with transformers on PyTorch at musicgen-small's full shape, with random weights.

Two halves, in two environments, and between them a file of a few hundred kilobytes; the
model takes 2.3 GB, and neither belongs into the repository::

    /tmp/references/bin/python -m tests.references.compare_full_size make FOLDER REFERENCE.npz
    .venv/bin/python -m tests.references.compare_full_size compare FOLDER REFERENCE.npz PACKAGE.MODULE:FUNCTION

``make_musicgen`` says how the first environment is set up. The function is a ``Compute``.
"""

import argparse
import importlib
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.kinds.musicgen.catalogue import CONFIGURATION
from tests.references.musicgen_cases import hash_weights
from worker.engines.musicgen.model.random_model import SMALL, write_random_model

SEED: Final = 0
PROMPT: Final = "80s pop, synths, bass"
POSITIONS: Final = 8
FRAMES: Final = 50
GUIDANCE_SCALE: Final = 3.0

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Question:
    """What is computed.

    Parameters
    ----------
    input_ids
        The text's tokens: shape (1, text), int32; none is padding.
    tokens
        What the decoder reads: shape (codebooks, positions), int16, the start token first.
    codes
        What EnCodec decodes: shape (codebooks, frames), int16.
    """

    input_ids: NDArray[np.int32]
    tokens: NDArray[np.int16]
    codes: NDArray[np.int16]


@dataclass(frozen=True)
class Answer:
    """What comes out.

    Parameters
    ----------
    text_states
        T5's last: shape (1, text, text_hidden).
    logits
        Shape (2, codebooks, positions, codes): conditional, then unconditional.
    audio
        Shape (samples,).
    """

    text_states: Floats
    logits: Floats
    audio: Floats

    @property
    def guided(self) -> Floats:
        """The logits that decide: shape (codebooks, positions, codes)."""
        conditional, unconditional = self.logits
        guided: Floats = unconditional + np.float32(GUIDANCE_SCALE) * (conditional - unconditional)
        return guided


Compute = Callable[[Path, Question], Answer]
"""Loads the model of a folder, and answers."""


@dataclass(frozen=True)
class Reference:
    """What transformers answers."""

    question: Question
    answer: Answer
    weights_sha256: str


def load_reference(path: Path) -> Reference:
    """Read what ``make`` wrote."""
    with np.load(path) as arrays:
        return Reference(
            Question(arrays["input_ids"], arrays["tokens"], arrays["codes"]),
            Answer(arrays["text_states"], arrays["logits"], arrays["audio"]),
            str(arrays["weights_sha256"]),
        )


def ask(input_ids: NDArray[np.int32]) -> Question:
    """Draw the rest of the question."""
    random = np.random.default_rng(SEED)
    tokens = random.integers(SMALL.codebook_size, size=(SMALL.codebooks, POSITIONS), dtype=np.int16)
    tokens[:, 0] = SMALL.codebook_size
    codes = random.integers(SMALL.codebook_size, size=(SMALL.codebooks, FRAMES), dtype=np.int16)
    return Question(input_ids, tokens, codes)


def make(folder: Path, path: Path) -> None:
    """Write the model, unless it is there, and let transformers answer."""
    if not (folder / CONFIGURATION).exists():
        write_random_model(folder, SMALL, SEED)
    from transformers import AutoTokenizer  # the other half runs where there is no torch

    question = ask(AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="np")["input_ids"].astype(np.int32))
    answer = compute_by_transformers(folder, question)
    np.savez_compressed(path, **asdict(question), **asdict(answer), weights_sha256=np.array(hash_weights(folder)))


def compute_by_transformers(folder: Path, question: Question) -> Answer:
    """Answer by transformers: a ``Compute``."""
    import torch  # the other half runs where there is none
    from transformers import MusicgenForConditionalGeneration
    from transformers.modeling_outputs import BaseModelOutput

    with torch.no_grad():
        model: Any = MusicgenForConditionalGeneration.from_pretrained(folder).eval()
        input_ids = torch.from_numpy(question.input_ids.astype(np.int64))
        states = model.text_encoder(input_ids=input_ids).last_hidden_state
        mask = torch.ones_like(input_ids)
        tokens = torch.from_numpy(question.tokens.astype(np.int64))
        logits = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=torch.cat([states, torch.zeros_like(states)])),
            attention_mask=torch.cat([mask, torch.zeros_like(mask)]),
            decoder_input_ids=torch.cat([tokens, tokens]),
        ).logits
        codes = torch.from_numpy(question.codes.astype(np.int64))
        audio = model.audio_encoder.decode(codes[None, None], [None]).audio_values
    return Answer(states.numpy(), logits.reshape(2, *tokens.shape, -1).numpy(), audio[0, 0].numpy())


def compare(folder: Path, path: Path, compute: Compute) -> dict[str, float]:
    """Let the engine answer, and return its largest errors in comparison to the largest right number.

    Raises
    ------
    ValueError
        The folder has another model than the reference was made with.
    """
    reference = load_reference(path)
    if hash_weights(folder) != reference.weights_sha256:
        raise ValueError(f"{path} was not made with the model in {folder}; make it again.")
    answer = compute(folder, reference.question)
    pairs = {
        "text states": (answer.text_states, reference.answer.text_states),
        "logits, conditional": (answer.logits[0], reference.answer.logits[0]),
        "logits, unconditional": (answer.logits[1], reference.answer.logits[1]),
        "logits, guided, first step": (answer.guided[:, 0], reference.answer.guided[:, 0]),
        "logits, guided": (answer.guided, reference.answer.guided),
        "audio": (answer.audio, reference.answer.audio),
    }
    for name, (ours, theirs) in pairs.items():
        if ours.shape != theirs.shape:
            raise ValueError(f"{name}: the shape is {ours.shape}, and {theirs.shape} was expected.")
    return {name: float(abs(ours - theirs).max() / abs(theirs).max()) for name, (ours, theirs) in pairs.items()}


def main() -> None:
    """Run one half."""
    parser = argparse.ArgumentParser(prog="python -m tests.references.compare_full_size")
    halves = parser.add_subparsers(dest="half", required=True)
    making, comparing = halves.add_parser("make"), halves.add_parser("compare")
    for half in (making, comparing):
        half.add_argument("folder", type=Path, help="of the model")
        half.add_argument("reference", type=Path)
    comparing.add_argument("compute", help="package.module:function")
    chosen = parser.parse_args()
    if chosen.half == "make":
        make(chosen.folder, chosen.reference)
        return
    module, _, function = chosen.compute.partition(":")
    compute = getattr(importlib.import_module(module), function)
    for name, error in compare(chosen.folder, chosen.reference, compute).items():
        sys.stdout.write(f"{name}: {error:.1e}\n")


if __name__ == "__main__":
    main()
