"""The decoder on OpenVINO, with keys and values in blocks.

Each slot has blocks of its own. So slots of any lengths run in one batch, each
reads only what it holds, and none is moved when others are admitted or dropped.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from worker.engines.musicgen.backends.openvino import decoder_graph
from worker.engines.musicgen.backends.openvino.graph_cache import CompiledDecoder
from worker.engines.musicgen.decoding.decoder import OnCompile, TextStates, ignore_compiling
from worker.engines.musicgen.request import Tokens

BLOCK: Final = 32
"""How many positions a block has: OpenVINO's choice on CPUs."""
CHUNK: Final = 64
"""How many positions are computed at once at most: known ones of one slot, or one of each slot.

If the processor has no VNNI, OpenVINO multiplies int8 and int4 weights in float32, by a kernel that depends on the
number of rows. Measured with AVX2, for matrices of up to 8,192 inputs and 1 to 16 threads: 5 to 80 rows are rounded the
same, to the bit. A single row is rounded differently; so are 2 to 4 rows if the matrix has more than 4,096 inputs (the
medium and large models), and more than 80 rows if it has more than 512. In float32, every number of rows is rounded the
same. Chunks of 256 positions took as long per position as chunks of 64.
"""
MIN_ROWS: Final = 5
"""How many rows every product has at least, for the same reason."""
MASKED: Final = -1e9
"""Added to the attention scores of padding."""
TEXT_STEP: Final = 16
"""Texts are padded to a multiple of this, so that their sums are rounded the same in a batch with longer texts."""
PADDING_SLOT: Final = -1
"""A slot that is part of every batch, and always reads its first positions again.

Of few rows OpenVINO computes the products, and of single positions of few rows the attention, in another way than of
more, and so rounds them differently. With this slot there are never so few.
"""
MIN_PADDING_POSITIONS: Final = 2
"""How many positions the padding slot reads at least."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class _Slot:
    blocks: list[int]
    text: list[Floats]
    """Keys and values of each layer, shapes (1, heads, head, tokens) and (1, heads, tokens, head)."""
    text_tokens: int


class OpenVinoDecoder:
    """See `worker.engines.musicgen.decoding.decoder.Decoder`.

    Parameters
    ----------
    max_bytes
        How much memory the caches may take; the system provides it only as it is written.
    """

    max_chunk = CHUNK

    def __init__(self, compiled: CompiledDecoder, max_bytes: int) -> None:
        self._config = compiled.config
        self.on_compile: OnCompile = ignore_compiling
        self._step = compiled.step.create_infer_request()
        self._texts = compiled.texts.create_infer_request()
        self._cache_dtype = compiled.step.input(decoder_graph.name_caches(0)[0]).get_element_type()
        padding_blocks = 1
        # The two slots of one sample are always admitted, whatever the limit.
        min_blocks = self._count_blocks(self._config.positions) * 2
        self._blocks = padding_blocks + max(max_bytes // self._block_bytes, min_blocks)
        self._free: list[int] = []
        self._slots: dict[int, _Slot] = {}
        self._caches: list[NDArray[Any]] = []
        self._numbers = itertools.count()
        self._gathered: tuple[int, ...] = ()
        """The slots whose texts are set as inputs."""

    def count_bytes(self, length: int) -> int:
        """Count the memory of a slot; see the protocol."""
        return self._count_blocks(length) * self._block_bytes

    def admit(self, text: TextStates | None, length: int) -> int:
        """Occupy a slot; see the protocol."""
        if not self._slots:
            self._start_batch()
        number = next(self._numbers)
        self._add_slot(number, text, length)
        return number

    def drop(self, slot: int) -> None:
        """Free a slot; see the protocol."""
        self._free.extend(self._slots.pop(slot).blocks)
        self._gathered = ()
        if self._slots.keys() == {PADDING_SLOT}:
            self.close()

    def feed(self, slot: int, tokens: Tokens, position: int) -> None:
        """Read known tokens; see the protocol."""
        # As if each position were in a slot of its own: as many as in steps, and rounded in the same way.
        positions = np.arange(position, position + tokens.shape[1])
        self._gather_texts([slot])
        self._infer([slot] * len(positions), tokens.T, positions, logits=1)

    def step(self, slots: Sequence[int], tokens: Ints, positions: Ints) -> Floats:
        """Read one position per slot; see the protocol."""
        parts = (slice(start, start + CHUNK) for start in range(0, len(slots), CHUNK))
        return np.concatenate([self._step_at_once(slots[part], tokens[part], positions[part]) for part in parts])

    def close(self) -> None:
        """Free the memory of the caches."""
        self._slots.clear()
        self._allocate_caches(blocks=1)

    def _step_at_once(self, slots: Sequence[int], tokens: Ints, positions: Ints) -> Floats:
        count, padding = len(slots), count_padding_positions(len(slots))
        self._gather_texts([*slots, *[PADDING_SLOT] * padding])
        # The logits of the padding slot as well, or the product with the heads has fewer rows than `MIN_ROWS`. Without
        # them, and without VNNI, 220 of the 256 logits of a single slot differed, by up to 2.9e-6, from those of the
        # same slot in a batch with another.
        self._infer(slots, tokens, positions, logits=count + padding)
        logits: Floats = self._step.get_output_tensor(0).data[:count].copy()  # the next inference overwrites them
        return logits.reshape(count, self._config.codebooks, self._config.vocabulary)

    def _infer(self, slots: Sequence[int], tokens: NDArray[Any], positions: NDArray[Any], *, logits: int) -> None:
        """Read one position per slot, and those of the padding slot; compute the logits of the first ``logits``."""
        padding = count_padding_positions(len(positions))
        tokens = np.concatenate([tokens, np.zeros((padding, tokens.shape[1]), dtype=np.int32)])
        slots = [*slots, PADDING_SLOT]
        past = np.append(positions, 0)
        counts = [self._count_blocks(int(position) + 1) for position in past]
        blocks = [self._slots[slot].blocks[:count] for slot, count in zip(slots, counts, strict=True)]
        inputs = {
            decoder_graph.TOKENS: tokens,
            decoder_graph.POSITIONS: np.append(positions, np.arange(padding)),
            decoder_graph.LOGIT_INDICES: np.arange(logits),
            decoder_graph.PAST_LENGTHS: past,
            decoder_graph.SUBSEQUENCE_BEGINS: np.append(np.arange(len(slots)), len(slots) - 1 + padding),
            decoder_graph.BLOCK_INDICES: np.concatenate(blocks),
            decoder_graph.BLOCK_INDICES_BEGINS: np.cumsum([0, *counts]),
            decoder_graph.MAX_CONTEXT_LENGTH: np.array(max(positions.max() + 1, padding)),
        }
        for name, values in inputs.items():
            self._step.set_tensor(name, ov.Tensor(np.array(values, dtype=np.int32, order="C")))
        self._step.infer()

    def _gather_texts(self, numbers: Sequence[int]) -> None:
        """Set the texts of these slots, in this order, as inputs of the graph, unless they are set already."""
        if tuple(numbers) == self._gathered:
            return
        slots = [self._slots[number] for number in numbers]
        length = -(-max(slot.text_tokens for slot in slots) // TEXT_STEP) * TEXT_STEP
        mask = np.zeros((len(slots), 1, 1, length), dtype=np.float32)
        for index, slot in enumerate(slots):
            mask[index, ..., slot.text_tokens :] = MASKED
        self._step.set_tensor(decoder_graph.TEXT_MASK, ov.Tensor(mask))
        heads, head = self._config.heads, self._config.hidden // self._config.heads
        shapes = ((len(slots), heads, head, length), (len(slots), heads, length, head))
        for layer in range(self._config.layers):
            for part, (name, shape) in enumerate(zip(decoder_graph.name_text(layer), shapes, strict=True)):
                stacked = np.zeros(shape, dtype=np.float32)
                for padded, slot in zip(stacked, slots, strict=True):
                    text = slot.text[2 * layer + part][0]
                    padded[tuple(map(slice, text.shape))] = text
                self._step.set_tensor(name, ov.Tensor(stacked))
        self._gathered = tuple(numbers)

    def _compute_text(self, text: TextStates | None) -> list[Floats]:
        """Compute each layer's keys and values of a text."""
        config = self._config
        if text is None:
            # Without a text, keys and values are 0, and so is the output of the attention to them.
            head = config.hidden // config.heads
            zeros = [np.zeros((1, config.heads, *shape), dtype=np.float32) for shape in ((head, 1), (1, head))]
            return zeros * config.layers
        self._texts.set_tensor(decoder_graph.STATES, ov.Tensor(np.ascontiguousarray(text.states)))
        self._texts.infer()
        return [self._texts.get_output_tensor(index).data.copy() for index in range(2 * config.layers)]

    def _start_batch(self) -> None:
        """Allocate the caches, whose memory the system provides when it is written, and the padding slot."""
        self._free = list(range(self._blocks))
        self._allocate_caches(self._blocks)
        self._add_slot(PADDING_SLOT, None, count_padding_positions(1))

    def _add_slot(self, number: int, text: TextStates | None, length: int) -> None:
        blocks = [self._free.pop() for _ in range(self._count_blocks(length))]
        self._slots[number] = _Slot(blocks, self._compute_text(text), 1 if text is None else len(text.states))

    def _allocate_caches(self, blocks: int) -> None:
        shape = (blocks, self._config.heads, BLOCK, self._config.hidden // self._config.heads)
        dtype = np.float32 if self._cache_dtype == ov.Type.f32 else np.uint16  # NumPy has no bfloat16
        arrays = []
        for layer in range(self._config.layers):
            for name in decoder_graph.name_caches(layer):
                arrays.append(np.zeros(shape, dtype=dtype))
                self._step.set_tensor(name, ov.Tensor(arrays[-1], ov.Shape(shape), self._cache_dtype))
        self._caches = arrays  # OpenVINO does not keep arrays alive that it shares

    @property
    def _block_bytes(self) -> int:
        return int(2 * self._config.layers * BLOCK * self._config.hidden * self._cache_dtype.size)

    @staticmethod
    def _count_blocks(length: int) -> int:
        return -(-length // BLOCK)


def count_padding_positions(positions: int) -> int:
    """Return how many positions the padding slot reads together with this many of other slots."""
    return max(MIN_PADDING_POSITIONS, MIN_ROWS - positions)
