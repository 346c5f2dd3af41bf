"""The decoder on OpenVINO, with keys and values in blocks.

A block is the memory for the keys and values of ``BLOCK`` positions. Each slot has
blocks of its own. So slots of different lengths run in one batch, each slot reads only
its own positions, and no slot is moved when other slots are admitted or dropped.
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
"""How many positions a block has. On CPUs, OpenVINO prescribes this number."""
CHUNK: Final = 64
"""Maximum number of positions that are computed at once: either known positions of one slot (``feed``), or one
position of each slot (``step``).

The number of positions matters for the rounding: a product with a matrix of weights has one row for each position. If
the processor has no VNNI, OpenVINO multiplies int8 and int4 weights in float32, with a kernel that depends on the
number of rows. This was measured with AVX2, for matrices of up to 8,192 inputs and 1 to 16 threads. All products of 5
to 80 rows are rounded in the same way, to the bit. Products of a single row are rounded differently. Products of 2 to 4
rows are rounded differently if the matrix has more than 4,096 inputs (the medium and large models). Products of more
than 80 rows are rounded differently if the matrix has more than 512 inputs. With the precision float32, the rounding
does not depend on the number of rows.

Chunks of 256 positions took as long per position as chunks of 64.
"""
MIN_ROWS: Final = 2
"""How many rows every product has at least, so that all products are rounded in the same way; see `CHUNK`."""
MIN_WIDE_ROWS: Final = 5
"""The minimum number of rows, instead of `MIN_ROWS`, if a matrix of the model has more than `MAX_NARROW_INPUTS` inputs.

The small and the tiny model have no such matrix, and use `MIN_ROWS`. With `MIN_WIDE_ROWS`, a step of one guided sample
would have 5 rows instead of 4. Measured with the tiny model, a single job then had 0.78 times as many steps per second.
"""
MAX_NARROW_INPUTS: Final = 4_096
MASKED: Final = -1e9
"""Added to the attention scores of the padding of texts."""
TEXT_STEP: Final = 16
"""Texts are padded to a multiple of this number of tokens.

So the sums over the tokens of a text are rounded in the same way, whether or not the batch contains longer texts.
"""
PADDING_SLOT: Final = -1
"""The number of the padding slot. This slot belongs to no sequence, is part of every batch, and reads its first
positions again in every inference.

If a batch has few rows, OpenVINO computes the products in another way than for more rows, and so rounds them
differently. OpenVINO also computes the attention in another way if the batch has few slots and each of them reads a
single position. The padding slot adds rows, and reads several positions, so that neither case occurs.
"""
MIN_PADDING_POSITIONS: Final = 2
"""How many positions the padding slot reads at least in each inference."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class _Slot:
    blocks: list[int]
    text: list[Floats]
    """The text's keys and values in each layer, shapes (1, heads, head, tokens) and (1, heads, tokens, head)."""
    text_tokens: int


class OpenVinoDecoder:
    """Implements `worker.engines.musicgen.decoding.decoder.Decoder`.

    Parameters
    ----------
    max_bytes
        How much memory the caches may take. The operating system provides this memory only when it is first written.
    """

    max_chunk = CHUNK

    def __init__(self, compiled: CompiledDecoder, max_bytes: int) -> None:
        self._config = compiled.config
        self.on_compile: OnCompile = ignore_compiling
        self._step = compiled.step.create_infer_request()
        self._texts = compiled.texts.create_infer_request()
        self._cache_dtype = compiled.step.input(decoder_graph.name_caches(0)[0]).get_element_type()
        padding_blocks = 1
        # There are always enough blocks for the two slots of one sample, even if ``max_bytes`` is less.
        min_blocks = self._count_blocks(self._config.positions) * 2
        self._blocks = padding_blocks + max(max_bytes // self._block_bytes, min_blocks)
        self._free: list[int] = []
        self._slots: dict[int, _Slot] = {}
        self._caches: list[NDArray[Any]] = []
        self._numbers = itertools.count()
        widest = max(self._config.hidden, self._config.feed_forward)
        self._min_rows = MIN_ROWS if widest <= MAX_NARROW_INPUTS else MIN_WIDE_ROWS
        self._gathered: tuple[int, ...] = ()
        """The numbers of the slots whose texts are set as inputs of the graph at present."""

    def count_bytes(self, length: int) -> int:
        """Count the bytes that a slot for ``length`` positions takes until the slot is dropped."""
        return self._count_blocks(length) * self._block_bytes

    def admit(self, text: TextStates | None, length: int) -> int:
        """Occupy a slot, and return the number of the slot; see `decoding.decoder.Decoder.admit`."""
        if not self._slots:
            self._start_batch()
        number = next(self._numbers)
        self._add_slot(number, text, length)
        return number

    def drop(self, slot: int) -> None:
        """Free a slot and its memory."""
        self._free.extend(self._slots.pop(slot).blocks)
        self._gathered = ()
        if self._slots.keys() == {PADDING_SLOT}:
            self.close()

    def feed(self, slot: int, tokens: Tokens, position: int) -> None:
        """Read known tokens into the blocks of a slot; see `decoding.decoder.Decoder.feed`."""
        # Each position is read as if it were in a slot of its own, as in a step. So the number of rows has the same
        # minimum and maximum as in a step, and the results are rounded in the same way as in a step.
        positions = np.arange(position, position + tokens.shape[1])
        self._gather_texts([slot])
        self._infer([slot] * len(positions), tokens.T, positions, logits=1)

    def step(self, slots: Sequence[int], tokens: Ints, positions: Ints) -> Floats:
        """Read one position per slot, and return logits; see `decoding.decoder.Decoder.step`."""
        parts = (slice(start, start + CHUNK) for start in range(0, len(slots), CHUNK))
        return np.concatenate([self._step_at_once(slots[part], tokens[part], positions[part]) for part in parts])

    def close(self) -> None:
        """Free the memory of the caches."""
        self._slots.clear()
        self._allocate_caches(blocks=1)

    def _step_at_once(self, slots: Sequence[int], tokens: Ints, positions: Ints) -> Floats:
        count = len(slots)
        self._gather_texts([*slots, *[PADDING_SLOT] * self._count_padding_positions(count)])
        # If the batch has fewer slots than ``_min_rows``, logits of the padding slot are computed, too, so that the
        # product with the heads has ``_min_rows`` rows. Without the padding slot's logits, on a processor without VNNI,
        # 220 of the 256 logits of a slot that was alone in the batch differed by up to 2.9e-6 from the logits of the
        # same slot in a batch with another slot.
        self._infer(slots, tokens, positions, logits=max(count, self._min_rows))
        logits: Floats = self._step.get_output_tensor(0).data[:count].copy()  # the next inference overwrites the tensor
        return logits.reshape(count, self._config.codebooks, self._config.vocabulary)

    def _infer(self, slots: Sequence[int], tokens: NDArray[Any], positions: NDArray[Any], *, logits: int) -> None:
        """Read one position in each of the slots, then the positions of the padding slot.

        Logits are computed for the first ``logits`` of these positions.
        """
        padding = self._count_padding_positions(len(positions))
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
        """Set the texts of the given slots as inputs of the graph, in the given order.

        Nothing is done if these texts are set already.
        """
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
            # Without a text, all keys and values are 0, so that the attention to them returns 0.
            head = config.hidden // config.heads
            zeros = [np.zeros((1, config.heads, *shape), dtype=np.float32) for shape in ((head, 1), (1, head))]
            return zeros * config.layers
        self._texts.set_tensor(decoder_graph.STATES, ov.Tensor(np.ascontiguousarray(text.states)))
        self._texts.infer()
        return [self._texts.get_output_tensor(index).data.copy() for index in range(2 * config.layers)]

    def _start_batch(self) -> None:
        """Allocate the caches and the padding slot; the system provides the caches' memory when it is first written."""
        self._free = list(range(self._blocks))
        self._allocate_caches(self._blocks)
        self._add_slot(PADDING_SLOT, None, self._count_padding_positions(1))

    def _add_slot(self, number: int, text: TextStates | None, length: int) -> None:
        blocks = [self._free.pop() for _ in range(self._count_blocks(length))]
        self._slots[number] = _Slot(blocks, self._compute_text(text), 1 if text is None else len(text.states))

    def _allocate_caches(self, blocks: int) -> None:
        shape = (blocks, self._config.heads, BLOCK, self._config.hidden // self._config.heads)
        # NumPy has no bfloat16. So arrays of 2-byte integers hold the caches in bfloat16, and also those in float16.
        dtype = np.float32 if self._cache_dtype == ov.Type.f32 else np.uint16
        arrays = []
        for layer in range(self._config.layers):
            for name in decoder_graph.name_caches(layer):
                arrays.append(np.zeros(shape, dtype=dtype))
                self._step.set_tensor(name, ov.Tensor(arrays[-1], ov.Shape(shape), self._cache_dtype))
        self._caches = arrays  # OpenVINO uses the memory of the arrays but does not keep the arrays alive

    def _count_padding_positions(self, positions: int) -> int:
        """Count the positions that the padding slot reads if the other slots read ``positions`` positions."""
        return max(MIN_PADDING_POSITIONS, self._min_rows - positions)

    @property
    def _block_bytes(self) -> int:
        return int(2 * self._config.layers * BLOCK * self._config.hidden * self._cache_dtype.size)

    @staticmethod
    def _count_blocks(length: int) -> int:
        return -(-length // BLOCK)
