"""Rows of the decoder side by side: the backend of the decode loop."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from worker.engines.musicgen.backends.mindspore.buckets import CAPACITIES, CHUNK, ROWS, TEXT_TOKENS, round_up
from worker.engines.musicgen.backends.mindspore.decoder_cells import CrossCell, DecoderCell
from worker.engines.musicgen.backends.mindspore.kv_cache import KvCache
from worker.engines.musicgen.backends.mindspore.layers import MASKED, take
from worker.engines.musicgen.backends.mindspore.lock import run_exclusively
from worker.engines.musicgen.backends.mindspore.weights import DecoderWeights
from worker.engines.musicgen.decoding.decoder import OnCompile, TextStates, ignore_compiling
from worker.engines.musicgen.request import Tokens


class Compiled:
    """The decoder's cells, each compiled for the shapes that were met so far, and shared by all decoders."""

    def __init__(self, weights: DecoderWeights) -> None:
        self.weights = weights
        self.chunk = DecoderCell(weights, 1, CHUNK)
        self._steps: dict[int, DecoderCell] = {}
        self._crosses: dict[int, CrossCell] = {}
        self._met: set[tuple[object, ...]] = set()

    def get_step(self, rows: int) -> DecoderCell:
        """Return the cell for so many rows, one of ``ROWS``."""
        if rows not in self._steps:
            self._steps[rows] = DecoderCell(self.weights, rows, 1)
        return self._steps[rows]

    def get_cross(self, tokens: int) -> CrossCell:
        """Return the cell for so many tokens of text, one of ``TEXT_TOKENS``."""
        if tokens not in self._crosses:
            self._crosses[tokens] = CrossCell(self.weights, tokens)
        return self._crosses[tokens]

    def meet(self, *shape: object) -> bool:
        """Tell whether a shape is met for the first time, and so takes seconds to compile."""
        new = shape not in self._met
        self._met.add(shape)
        return new


class MindSporeDecoder:
    """Rows in MindSpore; see `worker.engines.musicgen.decoding.decoder.Decoder`.

    The cells have fixed shapes, so rows lie one after the other in slots, as many
    as the next of ``ROWS``; where one is dropped, the last moves in.
    """

    max_chunk = CHUNK

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self.on_compile: OnCompile = ignore_compiling
        self._numbers = itertools.count()
        self._slots: list[int] = []

    def count_bytes(self, length: int) -> int:
        """Count what a row takes; see the protocol."""
        config, target = self._compiled.weights.config, self._compiled.weights.target
        itemsize = 4 if target.precision == "float32" else 2
        return 2 * config.layers * round_up(length, CAPACITIES) * config.hidden * itemsize

    @run_exclusively
    def admit(self, text: TextStates | None, length: int) -> int:  # noqa: ARG002 - rows grow as they are read
        """Start a row; see the protocol."""
        weights = self._compiled.weights
        config, target = weights.config, weights.target
        tokens = 0 if text is None else len(text.states)
        slot = len(self._slots)
        if not self._slots:
            self._open()
        self._resize(slot + 1, self._keys.capacity, tokens)
        states = np.zeros((self._text_tokens, config.hidden), dtype=np.float32)
        if text is not None:
            states[:tokens] = text.states
        # Without text every key and value is 0, and so is what attention makes of them, whatever the mask.
        self._text_mask[slot] = 0.0
        self._text_mask[slot, :, :, tokens:] = MASKED if tokens else 0.0
        outputs = self._call("cross", self._compiled.get_cross(self._text_tokens), target.send(states))
        for layer, fused in enumerate(outputs):
            slots = np.full(self._text_tokens, slot, dtype=np.int32)
            positions = np.arange(self._text_tokens, dtype=np.int32)
            self._cross_keys.write(layer, slots, positions, fused[:, : config.hidden])
            self._cross_values.write(layer, slots, positions, fused[:, config.hidden :])
        number = next(self._numbers)
        self._slots.append(number)
        return number

    @run_exclusively
    def drop(self, row: int) -> None:
        """End a row; see the protocol."""
        slot, last = self._slots.index(row), len(self._slots) - 1
        if slot != last:
            for cache in self._caches:
                cache.copy_row(last, slot)
            self._text_mask[slot] = self._text_mask[last]
            self._slots[slot] = self._slots[last]
        self._slots.pop()
        if self._slots:
            self._resize(len(self._slots), self._keys.capacity, self._text_tokens)
        else:
            self._open()

    @run_exclusively
    def feed(self, row: int, tokens: Tokens, position: int) -> None:
        """Let a row read what is known; see the protocol."""
        read = tokens.shape[1]
        slot = self._slots.index(row)
        self._make_room(position + read)
        padded = np.zeros((CHUNK, tokens.shape[0]), dtype=np.int32)
        padded[:read] = tokens.T
        last = self._compiled.weights.config.positions - 1
        places = np.minimum(np.arange(position, position + CHUNK, dtype=np.int32), last)
        outputs = self._call(
            "chunk",
            self._compiled.chunk,
            Tensor.from_numpy(padded),
            Tensor.from_numpy(places),
            *self._send_masks(places[:1], self._text_mask[slot : slot + 1]),
            *(cache.take_row(slot) for cache in self._caches),
        )
        self._write(outputs, np.full(read, slot, dtype=np.int32), places[:read])

    @run_exclusively
    def step(self, rows: Sequence[int], tokens: NDArray[np.int32], positions: NDArray[np.int32]) -> NDArray[np.float32]:
        """Let rows read one position each; see the protocol."""
        self._make_room(int(positions.max()) + 1)
        config = self._compiled.weights.config
        slots = np.array([self._slots.index(row) for row in rows], dtype=np.int32)
        read = np.zeros((self._rows, config.codebooks), dtype=np.int32)
        read[slots] = tokens
        places = np.zeros(self._rows, dtype=np.int32)
        places[slots] = positions
        logits, *outputs = self._call(
            "step",
            self._compiled.get_step(self._rows),
            Tensor.from_numpy(read),
            Tensor.from_numpy(places),
            *self._send_masks(places, self._text_mask),
            *(cache.tensors for cache in self._caches),
        )
        values = take(logits).reshape(self._rows, config.codebooks, config.vocabulary)
        if np.array_equal(slots, np.arange(self._rows)):
            self._write(outputs, slots, positions)
            return values
        self._write([output[Tensor.from_numpy(slots)] for output in outputs], slots, positions)
        return values[slots]

    @property
    def _rows(self) -> int:
        return self._keys.rows

    def _open(self) -> None:
        """Begin with as little memory as there can be."""
        config, target = self._compiled.weights.config, self._compiled.weights.target
        self._text_tokens = TEXT_TOKENS[0]
        self._text_mask = np.zeros((ROWS[0], 1, 1, self._text_tokens), dtype=np.float32)

        def make(capacity: int) -> KvCache:
            return KvCache.make(target, config.layers, (ROWS[0], config.heads, capacity, config.hidden // config.heads))

        self._keys, self._values = make(CAPACITIES[0]), make(CAPACITIES[0])
        self._cross_keys, self._cross_values = make(self._text_tokens), make(self._text_tokens)

    @property
    def _caches(self) -> tuple[KvCache, KvCache, KvCache, KvCache]:
        return self._keys, self._values, self._cross_keys, self._cross_values

    def _send_masks(self, places: NDArray[np.int32], text_mask: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        held = np.arange(self._keys.capacity) < places[:, None, None, None]
        mask = np.where(held, np.float32(0), np.float32(MASKED))
        target = self._compiled.weights.target
        return target.send(mask), target.send(text_mask)

    def _write(self, outputs: Sequence[Tensor], rows: NDArray[np.int32], positions: NDArray[np.int32]) -> None:
        for layer in range(self._compiled.weights.config.layers):
            self._keys.write(layer, rows, positions, outputs[2 * layer])
            self._values.write(layer, rows, positions, outputs[2 * layer + 1])

    def _make_room(self, positions: int) -> None:
        if positions > self._keys.capacity:
            self._resize(self._rows, positions, self._text_tokens)

    def _resize(self, rows: int, positions: int, text_tokens: int) -> None:
        """Give the caches so many rows, and at least so many positions."""
        rows = round_up(rows, ROWS)
        capacity = max(self._keys.capacity, round_up(positions, CAPACITIES))
        text_tokens = max(self._text_tokens, round_up(text_tokens, TEXT_TOKENS))
        self._keys, self._values = self._keys.resize(rows, capacity), self._values.resize(rows, capacity)
        if (rows, text_tokens) == self._text_mask.shape[::3]:
            return
        self._cross_keys = self._cross_keys.resize(rows, text_tokens)
        self._cross_values = self._cross_values.resize(rows, text_tokens)
        mask = np.full((rows, 1, 1, text_tokens), MASKED, dtype=np.float32)
        held = self._text_mask[:rows]
        mask[: len(held), ..., : self._text_tokens] = held
        self._text_mask, self._text_tokens = mask, text_tokens

    def _call(self, name: str, cell: Any, *inputs: Any) -> Any:
        if not self._compiled.meet(name, self._rows, self._keys.capacity, self._text_tokens):
            return cell(*inputs)
        self.on_compile(compiling=True)
        outputs = cell(*inputs)
        self.on_compile(compiling=False)
        return outputs
