"""The decoder in MindSpore: tensors of fixed shapes, in which each slot is a row."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from worker.engines.musicgen.backends.mindspore.buckets import BATCH_SIZES, CAPACITIES, CHUNK, TEXT_TOKENS, round_up
from worker.engines.musicgen.backends.mindspore.decoder_cells import CrossKeyValueCell, DecoderCell
from worker.engines.musicgen.backends.mindspore.kv_cache import KvCache
from worker.engines.musicgen.backends.mindspore.layers import MASKED, to_numpy
from worker.engines.musicgen.backends.mindspore.lock import run_exclusively
from worker.engines.musicgen.backends.mindspore.weights import DecoderWeights
from worker.engines.musicgen.decoding.decoder import OnCompile, TextStates, ignore_compiling
from worker.engines.musicgen.request import Tokens


class DecoderCells:
    """The decoder's cells, shared by all decoders of a model. A cell is compiled at the first use of each shape."""

    def __init__(self, weights: DecoderWeights) -> None:
        self.weights = weights
        self.chunk = DecoderCell(weights, 1, CHUNK)
        self._steps: dict[int, DecoderCell] = {}
        self._cross: dict[int, CrossKeyValueCell] = {}
        self._used_shapes: set[tuple[object, ...]] = set()

    def get_step(self, rows: int) -> DecoderCell:
        """Return the cell that reads one position of each of ``rows`` rows; ``rows`` is one of ``BATCH_SIZES``."""
        if rows not in self._steps:
            self._steps[rows] = DecoderCell(self.weights, rows, 1)
        return self._steps[rows]

    def get_cross(self, tokens: int) -> CrossKeyValueCell:
        """Return the cell for a text of ``tokens`` tokens; ``tokens`` is one of ``TEXT_TOKENS``."""
        if tokens not in self._cross:
            self._cross[tokens] = CrossKeyValueCell(self.weights, tokens)
        return self._cross[tokens]

    def add_shape(self, *shape: object) -> bool:
        """Record that a shape is used; return whether this is the first use, in which compiling takes seconds."""
        new = shape not in self._used_shapes
        self._used_shapes.add(shape)
        return new


class MindSporeDecoder:
    """Implements `worker.engines.musicgen.decoding.decoder.Decoder`.

    The cells have fixed shapes. So the number of slots is rounded up to one of
    ``BATCH_SIZES``. The tensors have as many rows as the rounded number. Each slot
    occupies one row, and the unoccupied rows come last: when a slot is dropped, the slot
    in the last occupied row moves into the row of the dropped slot.
    """

    max_chunk = CHUNK

    def __init__(self, cells: DecoderCells) -> None:
        self._cells = cells
        self.on_compile: OnCompile = ignore_compiling
        self._numbers = itertools.count()
        self._slots: list[int] = []
        """For each occupied row, the number of the slot in this row."""

    def count_bytes(self, length: int) -> int:
        """Count the bytes that a slot for ``length`` positions takes until the slot is dropped."""
        config, target = self._cells.weights.config, self._cells.weights.target
        itemsize = 4 if target.precision == "float32" else 2
        return 2 * config.layers * round_up(length, CAPACITIES) * config.hidden * itemsize

    @run_exclusively
    def admit(self, text: TextStates | None, length: int) -> int:  # noqa: ARG002 - caches grow as positions are read
        """Occupy a slot, and return the number of the slot; see `decoding.decoder.Decoder.admit`."""
        weights = self._cells.weights
        config, target = weights.config, weights.target
        tokens = 0 if text is None else len(text.states)
        row = len(self._slots)
        if not self._slots:
            self._reset_caches()
        self._resize(row + 1, self._keys.capacity, tokens)
        states = np.zeros((self._text_tokens, config.hidden), dtype=np.float32)
        if text is not None:
            states[:tokens] = text.states
        # Without a text, all keys and values are 0. Then the attention to them returns 0, whatever the mask is.
        self._text_mask[row] = 0.0
        self._text_mask[row, :, :, tokens:] = MASKED if tokens else 0.0
        outputs = self._call("cross", self._cells.get_cross(self._text_tokens), target.to_tensor(states))
        for layer, keys_values in enumerate(outputs):
            rows = np.full(self._text_tokens, row, dtype=np.int32)
            positions = np.arange(self._text_tokens, dtype=np.int32)
            self._cross_keys.write(layer, rows, positions, keys_values[:, : config.hidden])
            self._cross_values.write(layer, rows, positions, keys_values[:, config.hidden :])
        number = next(self._numbers)
        self._slots.append(number)
        return number

    @run_exclusively
    def drop(self, slot: int) -> None:
        """Free a slot and its memory."""
        row, last = self._slots.index(slot), len(self._slots) - 1
        if row != last:
            for cache in self._caches:
                cache.copy_row(last, row)
            self._text_mask[row] = self._text_mask[last]
            self._slots[row] = self._slots[last]
        self._slots.pop()
        if self._slots:
            self._resize(len(self._slots), self._keys.capacity, self._text_tokens)
        else:
            self._reset_caches()

    @run_exclusively
    def feed(self, slot: int, tokens: Tokens, position: int) -> None:
        """Read known tokens into the cache of a slot; see `decoding.decoder.Decoder.feed`."""
        read = tokens.shape[1]
        row = self._slots.index(slot)
        self._ensure_capacity(position + read)
        padded = np.zeros((CHUNK, tokens.shape[0]), dtype=np.int32)
        padded[:read] = tokens.T
        last = self._cells.weights.config.positions - 1
        positions = np.minimum(np.arange(position, position + CHUNK, dtype=np.int32), last)
        outputs = self._call(
            "chunk",
            self._cells.chunk,
            Tensor.from_numpy(padded),
            Tensor.from_numpy(positions),
            *self._make_masks(positions[:1], self._text_mask[row : row + 1]),
            *(cache.get_row(row) for cache in self._caches),
        )
        self._write(outputs, np.full(read, row, dtype=np.int32), positions[:read])

    @run_exclusively
    def step(
        self, slots: Sequence[int], tokens: NDArray[np.int32], positions: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """Read one position per slot, and return logits; see `decoding.decoder.Decoder.step`."""
        self._ensure_capacity(int(positions.max()) + 1)
        config = self._cells.weights.config
        rows = np.array([self._slots.index(slot) for slot in slots], dtype=np.int32)
        all_tokens = np.zeros((self._rows, config.codebooks), dtype=np.int32)
        all_tokens[rows] = tokens
        all_positions = np.zeros(self._rows, dtype=np.int32)
        all_positions[rows] = positions
        logits, *outputs = self._call(
            "step",
            self._cells.get_step(self._rows),
            Tensor.from_numpy(all_tokens),
            Tensor.from_numpy(all_positions),
            *self._make_masks(all_positions, self._text_mask),
            *(cache.tensors for cache in self._caches),
        )
        values = to_numpy(logits).reshape(self._rows, config.codebooks, config.vocabulary)
        if np.array_equal(rows, np.arange(self._rows)):
            self._write(outputs, rows, positions)
            return values
        self._write([output[Tensor.from_numpy(rows)] for output in outputs], rows, positions)
        return values[rows]

    @property
    def _rows(self) -> int:
        return self._keys.rows

    def _reset_caches(self) -> None:
        """Allocate empty caches of the smallest size."""
        config, target = self._cells.weights.config, self._cells.weights.target
        self._text_tokens = TEXT_TOKENS[0]
        self._text_mask = np.zeros((BATCH_SIZES[0], 1, 1, self._text_tokens), dtype=np.float32)

        def allocate(capacity: int) -> KvCache:
            shape = (BATCH_SIZES[0], config.heads, capacity, config.hidden // config.heads)
            return KvCache.allocate(target, config.layers, shape)

        self._keys, self._values = allocate(CAPACITIES[0]), allocate(CAPACITIES[0])
        self._cross_keys, self._cross_values = allocate(self._text_tokens), allocate(self._text_tokens)

    @property
    def _caches(self) -> tuple[KvCache, KvCache, KvCache, KvCache]:
        return self._keys, self._values, self._cross_keys, self._cross_values

    def _make_masks(self, positions: NDArray[np.int32], text_mask: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        known = np.arange(self._keys.capacity) < positions[:, None, None, None]
        mask = np.where(known, np.float32(0), np.float32(MASKED))
        target = self._cells.weights.target
        return target.to_tensor(mask), target.to_tensor(text_mask)

    def _write(self, outputs: Sequence[Tensor], rows: NDArray[np.int32], positions: NDArray[np.int32]) -> None:
        for layer in range(self._cells.weights.config.layers):
            self._keys.write(layer, rows, positions, outputs[2 * layer])
            self._values.write(layer, rows, positions, outputs[2 * layer + 1])

    def _ensure_capacity(self, positions: int) -> None:
        if positions > self._keys.capacity:
            self._resize(self._rows, positions, self._text_tokens)

    def _resize(self, rows: int, positions: int, text_tokens: int) -> None:
        """Resize the caches to the smallest of ``BATCH_SIZES`` that is at least ``rows``.

        If the caches are too small for ``positions`` positions or ``text_tokens`` text tokens, they are enlarged, too.
        This method never shrinks the caches in these two dimensions.
        """
        rows = round_up(rows, BATCH_SIZES)
        capacity = max(self._keys.capacity, round_up(positions, CAPACITIES))
        text_tokens = max(self._text_tokens, round_up(text_tokens, TEXT_TOKENS))
        self._keys, self._values = self._keys.resize(rows, capacity), self._values.resize(rows, capacity)
        if (rows, text_tokens) == self._text_mask.shape[::3]:
            return
        self._cross_keys = self._cross_keys.resize(rows, text_tokens)
        self._cross_values = self._cross_values.resize(rows, text_tokens)
        mask = np.full((rows, 1, 1, text_tokens), MASKED, dtype=np.float32)
        kept = self._text_mask[:rows]
        mask[: len(kept), ..., : self._text_tokens] = kept
        self._text_mask, self._text_tokens = mask, text_tokens

    def _call(self, name: str, cell: Any, *inputs: Any) -> Any:
        if not self._cells.add_shape(name, self._rows, self._keys.capacity, self._text_tokens):
            return cell(*inputs)
        self.on_compile(compiling=True)
        outputs = cell(*inputs)
        self.on_compile(compiling=False)
        return outputs
