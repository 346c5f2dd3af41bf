"""Rows of the decoder side by side: the backend of the decode loop on OpenVINO.

Each row's keys and values lie in blocks of their own, so rows of any length run
together, each reads what it has and no more, and none is moved when others come
or go.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from worker.engines.musicgen.backends.openvino import decoder_graph
from worker.engines.musicgen.backends.openvino.graph_cache import CompiledModel
from worker.engines.musicgen.decoding.decoder import OnCompile, TextStates, ignore_compiling
from worker.engines.musicgen.request import Tokens

BLOCK: Final = 32
"""How many positions a block has: OpenVINO's choice on CPUs."""
CHUNK: Final = 256
"""Known positions that are read at once."""
MASKED: Final = -1e9
TEXT_STEP: Final = 16
"""Texts are filled up to a multiple of this, so that their sums are rounded the same beside longer ones."""
SPARE: Final = -1
"""A row that always reads its first positions anew, beside the others.

Of a single row OpenVINO computes the products, and of single positions of few rows the attention, in another way than
of more, and so rounds them differently. With this one there are never so few.
"""
SPARE_POSITIONS: Final = 2

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class _Row:
    blocks: list[int]
    text: list[Floats]
    """Keys and values of each layer, shapes (1, heads, head, tokens) and (1, heads, tokens, head)."""
    text_tokens: int


class OpenVinoDecoder:
    """Rows in OpenVINO; see `worker.engines.musicgen.decoding.decoder.Decoder`.

    Parameters
    ----------
    max_bytes
        How much memory the caches may take; it is taken from the system as it is written.
    """

    chunk = CHUNK

    def __init__(self, compiled: CompiledModel, max_bytes: int) -> None:
        self._config = compiled.config
        self.announce: OnCompile = ignore_compiling
        self._step = compiled.step.create_infer_request()
        self._texts = compiled.texts.create_infer_request()
        self._kind = compiled.step.input(decoder_graph.name_caches(0)[0]).get_element_type()
        spare = 1
        self._blocks = spare + max(max_bytes // self._block_bytes, self._count_blocks(self._config.positions) * 2)
        self._free: list[int] = []
        self._rows: dict[int, _Row] = {}
        self._caches: list[NDArray[Any]] = []
        self._numbers = itertools.count()
        self._company: tuple[int, ...] = ()

    def count_bytes(self, length: int) -> int:
        """Count what a row takes; see the protocol."""
        return self._count_blocks(length) * self._block_bytes

    def admit(self, text: TextStates | None, length: int) -> int:
        """Start a row; see the protocol."""
        if not self._rows:
            self._open()
        number = next(self._numbers)
        self._seat(number, text, length)
        return number

    def drop(self, row: int) -> None:
        """End a row; see the protocol."""
        self._free.extend(self._rows.pop(row).blocks)
        self._company = ()
        if self._rows.keys() == {SPARE}:
            self.close()

    def feed(self, row: int, tokens: Tokens, position: int) -> None:
        """Let a row read what is known; see the protocol."""
        # As if each position were a row of its own: as many steps at once, and rounded as these are.
        positions = np.arange(position, position + tokens.shape[1])
        self._gather_texts([row])
        self._infer([row] * len(positions), tokens.T, positions, np.zeros(1))

    def step(self, rows: Sequence[int], tokens: Ints, positions: Ints) -> Floats:
        """Let rows read one position each; see the protocol."""
        count = len(rows)
        self._gather_texts([*rows, *[SPARE] * SPARE_POSITIONS])
        self._infer(rows, tokens, positions, np.arange(count))
        logits: Floats = self._step.get_output_tensor(0).data
        return logits.reshape(count, self._config.codebooks, self._config.vocabulary)

    def close(self) -> None:
        """Give the caches' memory back."""
        self._rows.clear()
        self._hold_caches(blocks=1)

    def _infer(self, rows: Sequence[int], tokens: NDArray[Any], positions: NDArray[Any], asked: NDArray[Any]) -> None:
        spare = np.zeros((SPARE_POSITIONS, tokens.shape[1]), dtype=np.int32)
        tokens = np.concatenate([tokens, spare])
        rows = [*rows, SPARE]
        past = np.append(positions, 0)
        counts = [self._count_blocks(int(position) + 1) for position in past]
        blocks = [self._rows[row].blocks[:count] for row, count in zip(rows, counts, strict=True)]
        inputs = {
            decoder_graph.TOKENS: tokens,
            decoder_graph.POSITIONS: np.append(positions, np.arange(SPARE_POSITIONS)),
            decoder_graph.ASKED: asked,
            decoder_graph.PAST: past,
            decoder_graph.BEGINS: np.append(np.arange(len(rows)), len(rows) - 1 + SPARE_POSITIONS),
            decoder_graph.BLOCKS: np.concatenate(blocks),
            decoder_graph.BLOCKS_BEGINS: np.cumsum([0, *counts]),
            decoder_graph.LONGEST: np.array(max(positions.max() + 1, SPARE_POSITIONS)),
        }
        for name, values in inputs.items():
            self._step.set_tensor(name, ov.Tensor(np.array(values, dtype=np.int32, order="C")))
        self._step.infer()

    def _gather_texts(self, rows: Sequence[int]) -> None:
        """Lay the texts of these rows side by side, unless they already do."""
        if tuple(rows) == self._company:
            return
        seated = [self._rows[row] for row in rows]
        longest = -(-max(row.text_tokens for row in seated) // TEXT_STEP) * TEXT_STEP
        mask = np.zeros((len(rows), 1, 1, longest), dtype=np.float32)
        for index, row in enumerate(seated):
            mask[index, ..., row.text_tokens :] = MASKED
        self._step.set_tensor(decoder_graph.TEXT_MASK, ov.Tensor(mask))
        heads, head = self._config.heads, self._config.hidden // self._config.heads
        shapes = ((len(rows), heads, head, longest), (len(rows), heads, longest, head))
        for layer in range(self._config.layers):
            for part, (name, shape) in enumerate(zip(decoder_graph.name_text(layer), shapes, strict=True)):
                stacked = np.zeros(shape, dtype=np.float32)
                for place, row in zip(stacked, seated, strict=True):
                    text = row.text[2 * layer + part][0]
                    place[tuple(map(slice, text.shape))] = text
                self._step.set_tensor(name, ov.Tensor(stacked))
        self._company = tuple(rows)

    def _make_text(self, text: TextStates | None) -> list[Floats]:
        config = self._config
        if text is None:
            # Keys and values of nothing are 0, and so is what attention makes of them.
            head = config.hidden // config.heads
            nothing = [np.zeros((1, config.heads, *shape), dtype=np.float32) for shape in ((head, 1), (1, head))]
            return nothing * config.layers
        self._texts.set_tensor(decoder_graph.STATES, ov.Tensor(np.ascontiguousarray(text.states)))
        self._texts.infer()
        return [self._texts.get_output_tensor(index).data.copy() for index in range(2 * config.layers)]

    def _open(self) -> None:
        """Take the caches' memory, which the system gives when it is written."""
        self._free = list(range(self._blocks))
        self._hold_caches(self._blocks)
        self._seat(SPARE, None, SPARE_POSITIONS)

    def _seat(self, number: int, text: TextStates | None, length: int) -> None:
        blocks = [self._free.pop() for _ in range(self._count_blocks(length))]
        self._rows[number] = _Row(blocks, self._make_text(text), 1 if text is None else len(text.states))

    def _hold_caches(self, blocks: int) -> None:
        shape = (blocks, self._config.heads, BLOCK, self._config.hidden // self._config.heads)
        numbers = np.float32 if self._kind == ov.Type.f32 else np.uint16  # NumPy knows not all kinds of two bytes
        arrays = []
        for layer in range(self._config.layers):
            for name in decoder_graph.name_caches(layer):
                arrays.append(np.zeros(shape, dtype=numbers))
                self._step.set_tensor(name, ov.Tensor(arrays[-1], ov.Shape(shape), self._kind))
        self._caches = arrays  # OpenVINO does not hold what it is lent

    @property
    def _block_bytes(self) -> int:
        return int(2 * self._config.layers * BLOCK * self._config.hidden * self._kind.size)

    @staticmethod
    def _count_blocks(length: int) -> int:
        return -(-length // BLOCK)
