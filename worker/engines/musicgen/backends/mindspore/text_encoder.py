"""The T5 encoder: it computes, from the tokens of a prompt, the states that the decoder attends to.

References
----------
Raffel et al. 2020, "Exploring the limits of transfer learning with a unified text-to-text transformer";
``modeling_t5.py`` of transformers.
"""

from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, mutable, nn, ops
from numpy.typing import NDArray

from worker.engines.musicgen.backends.mindspore.buckets import TEXT_TOKENS, round_up
from worker.engines.musicgen.backends.mindspore.layers import MASKED, Linear, Target, to_numpy
from worker.engines.musicgen.backends.mindspore.lock import run_exclusively
from worker.engines.musicgen.decoding.decoder import TextStates
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.relative_positions import bucket_distances
from worker.engines.musicgen.model.tensors import PROJECTION, TEXT
from worker.engines.musicgen.model.weights import Weights


class TextEncoder:
    """Encodes prompts one by one, so that no result depends on other prompts.

    The encoder computes in float32 on every device: T5's sums are known to exceed the range of half precision.
    """

    def __init__(self, config: ModelConfig, weights: Weights, target: Target) -> None:
        self._config = config.text
        self._target = Target(target.device)
        self._cell = TextEncoderCell(config, self._target)
        self._embeddings = weights.read(f"{TEXT}.shared.weight")
        biases = f"{TEXT}.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        self._distance_biases = weights.read(biases)
        blocks = (f"{TEXT}.encoder.block.{block}.layer" for block in range(config.text.layers))
        self._blocks = mutable(tuple(self._load_block(weights, prefix) for prefix in blocks))
        last = [f"{TEXT}.encoder.final_layer_norm.weight"]
        if config.projected:
            last += [f"{PROJECTION}.weight", f"{PROJECTION}.bias"]
        self._last = mutable(tuple(self._target.to_device(weights.read(name)) for name in last))

    @run_exclusively
    def encode(self, ids: NDArray[np.int32]) -> TextStates:
        """Encode one prompt.

        Parameters
        ----------
        ids
            The tokens of the prompt, shape (tokens,), the end token included.
        """
        length = round_up(len(ids), TEXT_TOKENS)
        embedded = np.zeros((length, self._config.hidden), dtype=np.float32)
        embedded[: len(ids)] = self._embeddings[ids]
        positions = np.arange(length)
        distances = positions[None, :] - positions[:, None]
        buckets = bucket_distances(distances, self._config.distance_buckets, self._config.max_distance)
        bias = self._distance_biases[buckets].transpose(2, 0, 1)
        bias[:, :, len(ids) :] += np.float32(MASKED)
        inputs = self._target.to_tensor(embedded), self._target.to_tensor(np.ascontiguousarray(bias))
        states = self._cell(*inputs, self._blocks, self._last)
        return TextStates(to_numpy(states)[: len(ids)].copy())

    def _load_block(self, weights: Weights, prefix: str) -> tuple[Tensor, ...]:
        def read(name: str) -> NDArray[np.float32]:
            return weights.read(f"{prefix}.{name}.weight")

        values = (
            read("0.layer_norm"),
            np.concatenate([read(f"0.SelfAttention.{part}") for part in "qkv"]),
            read("0.SelfAttention.o"),
            read("1.layer_norm"),
            read("1.DenseReluDense.wi"),
            read("1.DenseReluDense.wo"),
        )
        return tuple(self._target.to_device(array) for array in values)


class TextEncoderCell(nn.Cell):
    """The encoder's blocks, and the projection to the hidden size of the decoder."""

    def __init__(self, config: ModelConfig, target: Target) -> None:
        super().__init__()
        text = config.text
        self.layers, self.heads, self.head = text.layers, text.heads, text.head
        self.epsilon = text.epsilon
        self.projected = config.projected
        self.linear = Linear(target, TEXT_TOKENS[0])
        self.score = ops.BatchMatMul(transpose_b=True)
        self.weighted_sum = ops.BatchMatMul()
        self.softmax = ops.Softmax(-1)
        self.split = ops.Split(1, 3)

    def norm(self, x: Any, scale: Any) -> Any:
        """Scale each row of x to a root mean square of 1, and multiply it by ``scale``."""
        return x * ops.rsqrt(ops.square(x).mean(-1, keep_dims=True) + self.epsilon) * scale

    def split_heads(self, x: Any) -> Any:
        """Split the heads: reshape from (tokens, heads * head) to (heads, tokens, head)."""
        return x.reshape(-1, self.heads, self.head).transpose(1, 0, 2)

    @mindspore.jit
    def construct(self, x: Any, bias: Any, blocks: Any, last: Any) -> Any:
        """Encode one prompt.

        Parameters
        ----------
        x
            The tokens' embeddings, shape (tokens, hidden).
        bias
            Added to the attention scores, shape (heads, tokens, tokens): the sum of the bias for the distance of two
            tokens and the mask of the padding.
        blocks
            Six tensors per block: scale of the first norm, matrices qkv and out of the attention, scale of the second
            norm, and the two matrices of the feed-forward part.
        last
            The scale of the last norm; if there is a projection, also the matrix and the shift of the projection.

        Returns
        -------
        The text states, shape (tokens, hidden size of the decoder).
        """
        for layer in range(self.layers):
            weights = blocks[layer]
            query, key, value = self.split(self.linear(self.norm(x, weights[0]), weights[1]))
            scores = self.score(self.split_heads(query), self.split_heads(key)) + bias
            attended = self.weighted_sum(self.softmax(scores), self.split_heads(value))
            x = x + self.linear(attended.transpose(1, 0, 2).reshape(-1, self.heads * self.head), weights[2])
            wide = ops.relu(self.linear(self.norm(x, weights[3]), weights[4]))
            x = x + self.linear(wide, weights[5])
        x = self.norm(x, last[0])
        if self.projected:
            x = self.linear(x, last[1]) + last[2]
        return x
