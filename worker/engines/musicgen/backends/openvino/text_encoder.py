"""The T5 encoder as OpenVINO's graph: what a prompt sounds like to the decoder.

References
----------
Raffel et al. 2020, "Exploring the limits of transfer learning with a unified text-to-text transformer";
``modeling_t5.py`` of transformers.
"""

from typing import Any, Final

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset16 as ops

from worker.engines.musicgen.backends.openvino.decoder_graph import take
from worker.engines.musicgen.backends.openvino.graph_cache import GraphCompiler, Part
from worker.engines.musicgen.decoding.decoder import TextStates
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.relative_positions import bucket_distances
from worker.engines.musicgen.model.tensors import PROJECTION, TEXT
from worker.engines.musicgen.model.weights import Weights

TOKENS: Final = "tokens"
DISTANCES: Final = "distances"


class TextEncoder:
    """Encodes prompts one by one, so that none depends on the others."""

    def __init__(self, config: ModelConfig, weights: Weights, compiler: GraphCompiler) -> None:
        self._config = config.text
        self._part = Part(compiler.compile("text", TextBuilder(config, weights).build))

    def encode(self, ids: NDArray[np.int32]) -> TextStates:
        """Encode one prompt; see the protocol."""
        positions = np.arange(len(ids))
        distances = positions[None, :] - positions[:, None]
        buckets = bucket_distances(distances, self._config.distance_buckets, self._config.max_distance)
        (states,) = self._part.compute({TOKENS: ids.astype(np.int32), DISTANCES: buckets.astype(np.int32)})
        return TextStates(states)


class TextBuilder:
    """Builds the graph."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self._config = config
        self._weights = weights

    def build(self) -> ov.Model:
        """Build it.

        Inputs
        ------
        tokens
            int32, shape (tokens,).
        distances
            The bucket of each token's distance to each, int32, shape (tokens, tokens).

        Returns
        -------
        One output, float32, shape (tokens, the decoder's hidden).
        """
        config = self._config
        tokens, distances = take(TOKENS, ov.Type.i32, [-1]), take(DISTANCES, ov.Type.i32, [-1, -1])
        x = ops.gather(self._read(f"{TEXT}.shared"), tokens, 0)
        near = self._read(f"{TEXT}.encoder.block.0.layer.0.SelfAttention.relative_attention_bias")
        bias = ops.unsqueeze(ops.transpose(ops.gather(near, distances, 0), [2, 0, 1]), 0)
        for block in range(config.text.layers):
            prefix = f"{TEXT}.encoder.block.{block}.layer"
            x = ops.add(x, self._attend(f"{prefix}.0", x, bias))
            x = ops.add(x, self._feed_forward(f"{prefix}.1", x))
        x = self._norm(f"{TEXT}.encoder.final_layer_norm", x)
        if config.projected:
            x = ops.add(self._multiply(x, PROJECTION), ops.constant(self._weights.read(f"{PROJECTION}.bias")[None]))
        return ov.Model([ops.result(x)], [tokens, distances], "text")

    def _attend(self, prefix: str, x: Any, bias: Any) -> Any:
        normed = self._norm(f"{prefix}.layer_norm", x)
        queries, keys, values = (
            self._part_heads(self._multiply(normed, f"{prefix}.SelfAttention.{part}")) for part in "qkv"
        )
        # T5 does not scale its scores.
        found = ops.scaled_dot_product_attention(queries, keys, values, bias, np.float32(1))
        flat = ops.reshape(
            ops.transpose(found, [0, 2, 1, 3]), [-1, self._config.text.heads * self._config.text.head], False
        )
        return self._multiply(flat, f"{prefix}.SelfAttention.o")

    def _part_heads(self, x: Any) -> Any:
        """Take the heads apart: (tokens, heads * head) to (1, heads, tokens, head)."""
        text = self._config.text
        return ops.transpose(ops.reshape(x, [1, -1, text.heads, text.head], False), [0, 2, 1, 3])

    def _feed_forward(self, prefix: str, x: Any) -> Any:
        wide = self._multiply(self._norm(f"{prefix}.layer_norm", x), f"{prefix}.DenseReluDense.wi")
        # As a ReLU it would become part of the product, for which OpenVINO would keep the weights in three more forms.
        return self._multiply(ops.maximum(wide, np.float32(0)), f"{prefix}.DenseReluDense.wo")

    def _norm(self, name: str, x: Any) -> Any:
        """Scale to a root mean square of 1."""
        square = ops.reduce_mean(ops.power(x, np.float32(2)), [-1], True)
        root = ops.sqrt(ops.add(square, np.float32(self._config.text.epsilon)))
        normed = ops.multiply(x, ops.divide(np.float32(1), root))
        return ops.multiply(normed, ops.constant(self._weights.read(f"{name}.weight")[None]))

    def _multiply(self, x: Any, name: str) -> Any:
        return ops.matmul(x, self._read(name), False, True)

    def _read(self, name: str) -> Any:
        return ops.constant(self._weights.read(f"{name}.weight"), shared_memory=True)
