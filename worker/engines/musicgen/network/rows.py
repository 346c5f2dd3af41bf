"""Rows of the decoder side by side: the backend of the decode loop."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from worker.engines.musicgen.composer import Tokens
from worker.engines.musicgen.decoder import IDLE, TextStates
from worker.engines.musicgen.network.caches import Cache
from worker.engines.musicgen.network.cells import CrossCell, DecoderCell
from worker.engines.musicgen.network.layers import MASKED, take
from worker.engines.musicgen.network.shapes import CAPACITIES, CHUNK, ROWS, TEXT_TOKENS, round_up
from worker.engines.musicgen.network.weights import DecoderWeights


class Announce(Protocol):
    """Told when a shape is met that is compiled first, and when that is over; may raise."""

    def __call__(self, *, compiling: bool) -> None:
        """Take note."""


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


class NetworkDecoder:
    """Rows in MindSpore; see `worker.engines.musicgen.decoder.Decoder`.

    Parameters
    ----------
    rows
        How many are needed.
    length
        How many positions the longest row will have.
    text_tokens
        How many tokens the longest text has.
    announce
        Told of compiling, which takes seconds.
    """

    def __init__(self, compiled: Compiled, rows: int, length: int, text_tokens: int, announce: Announce) -> None:
        config, target = compiled.weights.config, compiled.weights.target
        self._compiled = compiled
        self._announce = announce
        self._length = length
        self.rows = round_up(rows, ROWS)
        self.chunk = CHUNK
        self._text_tokens = round_up(max(text_tokens, 1), TEXT_TOKENS)
        self._text_mask = np.zeros((self.rows, 1, 1, self._text_tokens), dtype=np.float32)
        heads, head = config.heads, config.hidden // config.heads

        def make(capacity: int) -> Cache:
            return Cache.make(target, config.layers, (self.rows, heads, capacity, head))

        self._keys, self._values = make(CAPACITIES[0]), make(CAPACITIES[0])
        self._cross_keys, self._cross_values = make(self._text_tokens), make(self._text_tokens)

    def admit(self, row: int, text: TextStates | None) -> None:
        """Start a row anew; see the protocol."""
        weights = self._compiled.weights
        config, target = weights.config, weights.target
        states = np.zeros((self._text_tokens, config.hidden), dtype=np.float32)
        tokens = 0 if text is None else len(text.states)
        if text is not None:
            states[:tokens] = text.states
        # Without text every key and value is 0, and so is what attention makes of them, whatever the mask.
        self._text_mask[row] = 0.0
        self._text_mask[row, :, :, tokens:] = MASKED if tokens else 0.0
        outputs = self._call("cross", self._compiled.get_cross(self._text_tokens), target.send(states))
        for layer, fused in enumerate(outputs):
            rows = np.full(self._text_tokens, row, dtype=np.int32)
            positions = np.arange(self._text_tokens, dtype=np.int32)
            self._cross_keys.write(layer, rows, positions, fused[:, : config.hidden])
            self._cross_values.write(layer, rows, positions, fused[:, config.hidden :])

    def feed(self, row: int, tokens: Tokens, position: int) -> None:
        """Let a row read what is known; see the protocol."""
        read = tokens.shape[1]
        self._make_room(position + read)
        padded = np.zeros((CHUNK, tokens.shape[0]), dtype=np.int32)
        padded[:read] = tokens.T
        places = np.minimum(np.arange(position, position + CHUNK, dtype=np.int32), self._length - 1)
        outputs = self._call(
            "chunk",
            self._compiled.chunk,
            Tensor.from_numpy(padded),
            Tensor.from_numpy(places),
            *self._send_masks(places[:1], self._text_mask[row : row + 1]),
            *(cache.take_row(row) for cache in self._caches),
        )
        self._write(outputs, np.full(read, row, dtype=np.int32), places[:read])

    def step(self, tokens: NDArray[np.int32], positions: NDArray[np.int32]) -> NDArray[np.float32]:
        """Let every row read one position; see the protocol."""
        self._make_room(int(positions.max()) + 1)
        config = self._compiled.weights.config
        places = np.maximum(positions, 0)
        logits, *outputs = self._call(
            "step",
            self._compiled.get_step(self.rows),
            Tensor.from_numpy(tokens.copy()),
            Tensor.from_numpy(places),
            *self._send_masks(places, self._text_mask),
            *(cache.tensors for cache in self._caches),
        )
        values = take(logits)
        busy = np.flatnonzero(positions != IDLE).astype(np.int32)
        if len(busy) == self.rows:
            self._write(outputs, busy, places)
        else:
            self._write([output[Tensor.from_numpy(busy)] for output in outputs], busy, places[busy])
        return values.reshape(self.rows, config.codebooks, config.vocabulary)

    @property
    def _caches(self) -> tuple[Cache, Cache, Cache, Cache]:
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
            capacity = round_up(positions, CAPACITIES)
            self._keys, self._values = self._keys.grow(capacity), self._values.grow(capacity)

    def _call(self, name: str, cell: Any, *inputs: Any) -> Any:
        if not self._compiled.meet(name, self.rows, self._keys.capacity, self._text_tokens):
            return cell(*inputs)
        self._announce(compiling=True)
        outputs = cell(*inputs)
        self._announce(compiling=False)
        return outputs
