"""Plans of what each slot of a decoder reads and when, and functions that decode such plans."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.references.musicgen_cases import TINY, Model
from worker.engines.musicgen.backends.openvino.decoder import CHUNK, OpenVinoDecoder
from worker.engines.musicgen.backends.openvino.graph_cache import CompiledDecoder
from worker.engines.musicgen.decoding.decoder import TextStates
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.weights import Weights

# The heads are as large as in the published models. The rows of the matrices are long, so that int4 divides each row
# into several groups.
MODEL = Model(replace(TINY, hidden=128, heads=2, feed_forward=256), 8)
# One matrix has as many inputs as the widest matrix of musicgen-large. With so many inputs, OpenVINO can round
# products of few rows differently from products of more rows.
WIDE_MODEL = Model(replace(MODEL.size, feed_forward=8_192), 8)
PRECISIONS = ("float32", "bfloat16", "int8", "int4")

Logits = dict[int, NDArray[np.float32]]
"""For each position, the logits."""


@dataclass(frozen=True)
class SequencePlan:
    """A plan of what one slot reads, and when.

    Parameters
    ----------
    text_tokens
        The number of tokens of the text; 0 for no text.
    length
        How many positions the slot reads.
    start_step
        The slot is admitted after this number of steps of the batch.
    known
        How many positions the slot reads before its first step.
    chunk
        How many of the ``known`` positions the slot reads at once.
    """

    seed: int
    text_tokens: int
    length: int
    start_step: int = 0
    known: int = 0
    chunk: int = CHUNK

    @property
    def text(self) -> TextStates | None:
        shape = (self.text_tokens, MODEL.size.hidden)
        states = np.random.default_rng([0, self.seed]).standard_normal(shape, dtype=np.float32)
        return TextStates(states) if self.text_tokens else None

    @property
    def tokens(self) -> NDArray[np.int32]:
        shape = (MODEL.size.codebooks, self.length)
        return np.random.default_rng([1, self.seed]).integers(MODEL.size.codebook_size, size=shape, dtype=np.int32)


# The lengths of the texts are below and above the number of tokens that OpenVINO's kernels compute at once. The lengths
# of the sequences are below, at and above the end of a block of the cache.
PLANS = (
    SequencePlan(0, 1, 90),
    SequencePlan(1, 0, 60),
    SequencePlan(2, 3, 40, start_step=3),
    SequencePlan(3, 16, 70, start_step=5, known=33),
    SequencePlan(4, 17, 90, start_step=8),
    SequencePlan(5, 70, 300, start_step=10, known=260),
    SequencePlan(6, 0, 64, start_step=12),
    SequencePlan(7, 40, 65, start_step=20, known=64),
    SequencePlan(8, 33, 110, start_step=24, known=90),
    SequencePlan(9, 12, 35, start_step=30, known=31),
    *(SequencePlan(10 + index, 5 + 9 * index, 20 + 7 * index, start_step=40, known=2 * index) for index in range(8)),
)


def decode(decoder: OpenVinoDecoder, plans: Sequence[SequencePlan]) -> tuple[list[Logits], list[int]]:
    """Decode the plans in one batch; return the logits of each plan, and the number of slots in each step."""
    found: list[Logits] = [{} for _ in plans]
    slots: dict[int, int] = {}
    positions: dict[int, int] = {}
    counts: list[int] = []
    waiting = sorted(range(len(plans)), key=lambda index: plans[index].start_step)
    while waiting or slots:
        while waiting and plans[waiting[0]].start_step <= len(counts):
            index = waiting.pop(0)
            plan = plans[index]
            slots[index], positions[index] = decoder.admit(plan.text, plan.length), plan.known
            for start in range(0, plan.known, plan.chunk):
                stop = min(start + plan.chunk, plan.known)
                decoder.feed(slots[index], plan.tokens[:, start:stop], start)
        tokens = np.stack([plans[index].tokens[:, positions[index]] for index in slots])
        read = np.array([positions[index] for index in slots], dtype=np.int32)
        logits = decoder.step([*slots.values()], tokens, read)
        counts.append(len(slots))
        for index, own in zip([*slots], logits, strict=True):
            found[index][positions[index]] = own.copy()
            positions[index] += 1
            if positions[index] == plans[index].length:
                decoder.drop(slots.pop(index))
    return found, counts


def decode_alone(decoder: OpenVinoDecoder, plan: SequencePlan) -> Logits:
    """Decode a plan step by step, without other plans in the batch."""
    (logits,), _ = decode(decoder, [replace(plan, start_step=0, known=0)])
    return logits


def load_compiled(folder: Path, precision: str, cache_folder: Path) -> CompiledDecoder:
    """Load the decoder's graphs."""
    config = ModelConfig.read(folder)
    return CompiledDecoder.load(folder, config.decoder, Weights.open(folder, config), precision, cache_folder)
