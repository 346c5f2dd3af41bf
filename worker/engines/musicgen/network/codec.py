"""EnCodec in MindSpore: audio to codes and back."""

from collections.abc import Callable
from typing import Any

import numpy as np
from mindspore import nn, ops
from numpy.typing import NDArray

from worker.engines.musicgen.composer import Codes
from worker.engines.musicgen.configuration import CodecConfig
from worker.engines.musicgen.network.layers import Target, take
from worker.engines.musicgen.network.seanet_cells import LstmCell, build
from worker.engines.musicgen.seanet import Lstm, list_decoder_layers, list_encoder_layers
from worker.engines.musicgen.tensors import CODEC
from worker.engines.musicgen.weights import Weights


class Codec:
    """EnCodec; one channel at a time."""

    def __init__(self, config: CodecConfig, weights: Weights, target: Target) -> None:
        self._config = config
        self._target = target
        self._codebooks = np.stack(
            [weights.read(f"{CODEC}.quantizer.layers.{index}.codebook.embed") for index in range(config.codebooks)]
        )
        encoder, decoder = list_encoder_layers(config), list_decoder_layers(config)
        self._encoder = [
            LstmCell(layer.name, layer.size, layer.layers, weights, target)
            if isinstance(layer, Lstm)
            else build([layer], weights, target, reflecting=True)[0]
            for layer in encoder
        ]
        self._decoder = [
            LstmCell(layer.name, layer.size, layer.layers, weights, target)
            if isinstance(layer, Lstm)
            else build([layer], weights, target, reflecting=True)[0]
            for layer in decoder
        ]

    def _run(self, cells: list[nn.Cell], x: Any) -> Any:
        for cell in cells:
            if isinstance(cell, LstmCell):
                size = x.shape[1]
                y = x.reshape(size, -1).transpose(1, 0).reshape(-1, 1, size)
                y = cell(y, tuple(ops.zeros((1, 1, size)) for _ in range(2 * cell.layers)))[0]
                x = y.reshape(-1, size).transpose(1, 0).reshape(1, size, 1, -1)
            else:
                x = cell(x)
        return x

    def encode(self, audio: NDArray[np.float32], tell: Callable[[], None] | None = None) -> Codes:
        """Encode: (samples,) to (codebooks, frames)."""
        states = take(self._run(self._encoder, self._target.send(audio[None, None, None])))[0, :, 0].T
        codes = []
        for codebook in self._codebooks:
            distance = (states**2).sum(1, keepdims=True) - 2 * states @ codebook.T + (codebook**2).sum(1)
            codes.append((-distance).argmax(1))
            states = states - codebook[codes[-1]]
        return np.stack(codes).astype(np.int16)

    def decode(self, codes: Codes, tell: Callable[[], None] | None = None) -> NDArray[np.float32]:
        """Decode: (codebooks, frames) to (samples,)."""
        states = sum(codebook[index] for codebook, index in zip(self._codebooks, codes, strict=True))
        return take(self._run(self._decoder, self._target.send(np.ascontiguousarray(states.T[None, :, None]))))[0, 0, 0]
