"""Compare a backend with transformers on PyTorch at musicgen-small's full size, with random weights.

The two commands run in two environments. ``make`` writes the model, unless it
exists, and a reference file; ``compare`` reads both. The model takes 2.3 GB, and the reference
file a few hundred kilobytes. Neither belongs in the repository. Run the commands like this::

    /tmp/references/bin/python -m tests.references.compare_full_size make FOLDER REFERENCE.npz
    .venv/bin/python -m tests.references.compare_full_size compare FOLDER REFERENCE.npz PACKAGE.MODULE:FUNCTION

``make_musicgen`` describes how to set up the environment of ``make``. FUNCTION has the type
``Compute``, and computes with the backend.
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
class Inputs:
    """The inputs of the computation.

    Parameters
    ----------
    input_ids
        The tokens of the text: shape (1, text), int32, without padding.
    tokens
        The input of the decoder: shape (codebooks, positions), int16, with the start token at the first position.
    codes
        The input of EnCodec's decoder: shape (codebooks, frames), int16.
    """

    input_ids: NDArray[np.int32]
    tokens: NDArray[np.int16]
    codes: NDArray[np.int16]


@dataclass(frozen=True)
class Outputs:
    """The results of the computation.

    Parameters
    ----------
    text_states
        The output of T5: shape (1, text, text_hidden).
    logits
        The output of the decoder: shape (2, codebooks, positions, codes), the conditional logits before the
        unconditional logits.
    audio
        The output of EnCodec's decoder: shape (samples,).
    """

    text_states: Floats
    logits: Floats
    audio: Floats

    @property
    def guided(self) -> Floats:
        """The logits from which tokens are chosen: shape (codebooks, positions, codes)."""
        conditional, unconditional = self.logits
        guided: Floats = unconditional + np.float32(GUIDANCE_SCALE) * (conditional - unconditional)
        return guided


Compute = Callable[[Path, Inputs], Outputs]
"""A function that loads the model of a folder, and computes the outputs for the inputs."""


@dataclass(frozen=True)
class Reference:
    """The inputs, and the outputs of transformers."""

    inputs: Inputs
    outputs: Outputs
    weights_sha256: str


def load_reference(path: Path) -> Reference:
    """Read the file that ``make`` wrote."""
    with np.load(path) as arrays:
        return Reference(
            Inputs(arrays["input_ids"], arrays["tokens"], arrays["codes"]),
            Outputs(arrays["text_states"], arrays["logits"], arrays["audio"]),
            str(arrays["weights_sha256"]),
        )


def draw_inputs(input_ids: NDArray[np.int32]) -> Inputs:
    """Draw random tokens and codes."""
    random = np.random.default_rng(SEED)
    tokens = random.integers(SMALL.codebook_size, size=(SMALL.codebooks, POSITIONS), dtype=np.int16)
    tokens[:, 0] = SMALL.codebook_size
    codes = random.integers(SMALL.codebook_size, size=(SMALL.codebooks, FRAMES), dtype=np.int16)
    return Inputs(input_ids, tokens, codes)


def make(folder: Path, path: Path) -> None:
    """Write the model if it does not exist, and write the reference file with the outputs of transformers."""
    if not (folder / CONFIGURATION).exists():
        write_random_model(folder, SMALL, SEED)
    from transformers import AutoTokenizer  # here, because the other command runs without torch

    input_ids = AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="np")["input_ids"]
    inputs = draw_inputs(input_ids.astype(np.int32))
    outputs = compute_with_transformers(folder, inputs)
    np.savez_compressed(path, **asdict(inputs), **asdict(outputs), weights_sha256=np.array(hash_weights(folder)))


def compute_with_transformers(folder: Path, inputs: Inputs) -> Outputs:
    """Compute the outputs with transformers; the function has the type ``Compute``."""
    import torch  # here, because the other command runs without torch
    from transformers import MusicgenForConditionalGeneration
    from transformers.modeling_outputs import BaseModelOutput

    with torch.no_grad():
        model: Any = MusicgenForConditionalGeneration.from_pretrained(folder).eval()
        input_ids = torch.from_numpy(inputs.input_ids.astype(np.int64))
        states = model.text_encoder(input_ids=input_ids).last_hidden_state
        mask = torch.ones_like(input_ids)
        tokens = torch.from_numpy(inputs.tokens.astype(np.int64))
        logits = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=torch.cat([states, torch.zeros_like(states)])),
            attention_mask=torch.cat([mask, torch.zeros_like(mask)]),
            decoder_input_ids=torch.cat([tokens, tokens]),
        ).logits
        codes = torch.from_numpy(inputs.codes.astype(np.int64))
        audio = model.audio_encoder.decode(codes[None, None], [None]).audio_values
    return Outputs(states.numpy(), logits.reshape(2, *tokens.shape, -1).numpy(), audio[0, 0].numpy())


def compare(folder: Path, path: Path, compute: Compute) -> dict[str, float]:
    """Compute with a backend, and return the largest error of each output.

    The error is divided by the largest absolute value that transformers computed for the output.

    Raises
    ------
    ValueError
        The reference was made with another model than the model in the folder, or an output has the wrong shape.
    """
    reference = load_reference(path)
    if hash_weights(folder) != reference.weights_sha256:
        raise ValueError(f"{path} was not made with the model in {folder}; make it again.")
    outputs = compute(folder, reference.inputs)
    pairs = {
        "text states": (outputs.text_states, reference.outputs.text_states),
        "logits, conditional": (outputs.logits[0], reference.outputs.logits[0]),
        "logits, unconditional": (outputs.logits[1], reference.outputs.logits[1]),
        "logits, guided, first step": (outputs.guided[:, 0], reference.outputs.guided[:, 0]),
        "logits, guided": (outputs.guided, reference.outputs.guided),
        "audio": (outputs.audio, reference.outputs.audio),
    }
    for name, (found, expected) in pairs.items():
        if found.shape != expected.shape:
            raise ValueError(f"{name}: the shape is {found.shape}, and {expected.shape} was expected.")
    return {name: float(abs(found - expected).max() / abs(expected).max()) for name, (found, expected) in pairs.items()}


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(prog="python -m tests.references.compare_full_size")
    commands = parser.add_subparsers(dest="command", required=True)
    make_parser, compare_parser = commands.add_parser("make"), commands.add_parser("compare")
    for each in (make_parser, compare_parser):
        each.add_argument("folder", type=Path, help="folder of the model")
        each.add_argument("reference", type=Path)
    compare_parser.add_argument("compute", help="package.module:function")
    chosen = parser.parse_args()
    if chosen.command == "make":
        make(chosen.folder, chosen.reference)
        return
    module, _, function = chosen.compute.partition(":")
    compute = getattr(importlib.import_module(module), function)
    for name, error in compare(chosen.folder, chosen.reference, compute).items():
        sys.stdout.write(f"{name}: {error:.1e}\n")


if __name__ == "__main__":
    main()
