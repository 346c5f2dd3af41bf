"""The T5 encoder: what a prompt sounds like to the decoder.

References
----------
Raffel et al. 2020, "Exploring the limits of transfer learning with a unified text-to-text transformer";
``modeling_t5.py`` of transformers.
"""

import math
from typing import Any

import mindspore
import numpy as np
from mindspore import ParameterTuple, Tensor, nn, ops
from numpy.typing import NDArray

from worker.engines.musicgen.configuration import ModelConfig, TextConfig
from worker.engines.musicgen.decoder import TextStates
from worker.engines.musicgen.network.layers import MASKED, Linear, Target, take
from worker.engines.musicgen.network.shapes import TEXT_TOKENS, round_up
from worker.engines.musicgen.tensors import PROJECTION, TEXT
from worker.engines.musicgen.weights import Weights


class TextEncoder:
    """Encodes prompts one by one, so that none depends on the others.

    In float32 wherever it runs: T5's sums are known to leave half precision.
    """

    def __init__(self, config: ModelConfig, weights: Weights, target: Target) -> None:
        self._config = config.text
        self._target = Target(target.device)
        self._cell = TextCell(config, weights, self._target)
        self._distances = weights.read(f"{TEXT}.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight")

    def encode(self, ids: NDArray[np.int32]) -> TextStates:
        """Encode one prompt.

        Parameters
        ----------
        ids
            Its tokens, shape (tokens,), the end token included.
        """
        length = round_up(len(ids), TEXT_TOKENS)
        padded = np.zeros(length, dtype=np.int32)
        padded[: len(ids)] = ids
        bias = self._distances[find_buckets(length, self._config)].transpose(2, 0, 1)
        bias[:, :, len(ids) :] += np.float32(MASKED)
        states = self._cell(Tensor.from_numpy(padded), self._target.send(np.ascontiguousarray(bias)))
        return TextStates(take(states)[: len(ids)].copy())


class TextCell(nn.Cell):
    """The encoder and the projection to the decoder's size."""

    def __init__(self, config: ModelConfig, weights: Weights, target: Target) -> None:
        super().__init__()
        text = config.text
        self.layers, self.heads, self.head = text.layers, text.heads, text.head
        self.epsilon = text.epsilon
        self.projected = config.projected

        def hold(name: str) -> Any:
            return target.hold(weights.read(name), name)

        def hold_each(make: Any) -> ParameterTuple:
            return ParameterTuple([make(f"{TEXT}.encoder.block.{block}.layer") for block in range(text.layers)])

        def fuse(prefix: str) -> Any:
            parts = [weights.read(f"{prefix}.0.SelfAttention.{part}.weight") for part in "qkv"]
            return target.hold(np.concatenate(parts), f"{prefix}.qkv")

        self.table = hold(f"{TEXT}.shared.weight")
        self.scale_1 = hold_each(lambda prefix: hold(f"{prefix}.0.layer_norm.weight"))
        self.qkv = hold_each(fuse)
        self.out = hold_each(lambda prefix: hold(f"{prefix}.0.SelfAttention.o.weight"))
        self.scale_2 = hold_each(lambda prefix: hold(f"{prefix}.1.layer_norm.weight"))
        self.widen = hold_each(lambda prefix: hold(f"{prefix}.1.DenseReluDense.wi.weight"))
        self.narrow = hold_each(lambda prefix: hold(f"{prefix}.1.DenseReluDense.wo.weight"))
        self.last_scale = hold(f"{TEXT}.encoder.final_layer_norm.weight")
        if self.projected:
            self.project, self.shift = hold(f"{PROJECTION}.weight"), hold(f"{PROJECTION}.bias")
        self.linear = Linear(target, TEXT_TOKENS[0])
        self.score = ops.BatchMatMul(transpose_b=True)
        self.blend = ops.BatchMatMul()
        self.softmax = ops.Softmax(-1)
        self.gather = ops.Gather()

    def norm(self, x: Any, scale: Any) -> Any:
        """Scale to a root mean square of 1."""
        return x * ops.rsqrt(ops.square(x).mean(-1, keep_dims=True) + self.epsilon) * scale

    def part(self, x: Any) -> Any:
        """Take the heads apart: (tokens, heads * head) to (heads, tokens, head)."""
        return x.reshape(-1, self.heads, self.head).transpose(1, 0, 2)

    @mindspore.jit
    def construct(self, ids: Any, bias: Any) -> Any:
        """Encode.

        Parameters
        ----------
        ids
            Shape (tokens,), int32.
        bias
            Added to the scores, shape (heads, tokens, tokens): what distance says, and what is padding.

        Returns
        -------
        Shape (tokens, the decoder's hidden).
        """
        x = self.gather(self.table, ids, 0)
        inner = self.heads * self.head
        for layer in range(self.layers):
            fused = self.linear(self.norm(x, self.scale_1[layer]), self.qkv[layer])
            query, key, value = (
                self.part(fused[:, :inner]),
                self.part(fused[:, inner : 2 * inner]),
                self.part(fused[:, 2 * inner :]),
            )
            blended = self.blend(self.softmax(self.score(query, key) + bias), value)
            x = x + self.linear(blended.transpose(1, 0, 2).reshape(-1, inner), self.out[layer])
            wide = ops.relu(self.linear(self.norm(x, self.scale_2[layer]), self.widen[layer]))
            x = x + self.linear(wide, self.narrow[layer])
        x = self.norm(x, self.last_scale)
        if self.projected:
            x = self.linear(x, self.project) + self.shift
        return x


def find_buckets(tokens: int, config: TextConfig) -> NDArray[np.int64]:
    """Find which learnt distance stands between each two tokens.

    Near ones have one each, far ones share them in logarithmic steps; half are for what comes after.

    Returns
    -------
    Shape (tokens, tokens), from row to column.
    """
    positions = np.arange(tokens)
    distance = positions[None, :] - positions[:, None]
    half = config.distance_buckets // 2
    exact = half // 2
    size = np.abs(distance)
    far = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact)) / math.log(config.distance_most / exact)
    far_bucket = np.minimum(exact + (far * (half - exact)).astype(np.int64), half - 1)
    buckets: NDArray[np.int64] = np.where(distance > 0, half, 0) + np.where(size < exact, size, far_bucket)
    return buckets
