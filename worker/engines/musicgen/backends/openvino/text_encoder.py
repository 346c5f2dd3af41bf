"""The T5 encoder as a graph of OpenVINO: it computes, from a prompt's tokens, the states that the decoder attends to.

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

from worker.engines.musicgen.backends.openvino.decoder_graph import make_input
from worker.engines.musicgen.backends.openvino.graph_cache import GraphCompiler, LockedGraph
from worker.engines.musicgen.decoding.decoder import TextStates
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.relative_positions import bucket_distances
from worker.engines.musicgen.model.tensors import PROJECTION, TEXT
from worker.engines.musicgen.model.weights import Weights

TOKENS: Final = "tokens"
BUCKETS: Final = "buckets"


class TextEncoder:
    """Encodes prompts one by one, so that no result depends on other prompts."""

    def __init__(self, config: ModelConfig, weights: Weights, compiler: GraphCompiler) -> None:
        self._config = config.text
        self._graph = LockedGraph(compiler.compile("text", TextGraphBuilder(config, weights).build))

    def encode(self, ids: NDArray[np.int32]) -> TextStates:
        """Encode the tokens of one prompt, shape (tokens,), the end token included."""
        positions = np.arange(len(ids))
        distances = positions[None, :] - positions[:, None]
        buckets = bucket_distances(distances, self._config.distance_buckets, self._config.max_distance)
        (states,) = self._graph.compute({TOKENS: ids.astype(np.int32), BUCKETS: buckets.astype(np.int32)})
        return TextStates(states)


class TextGraphBuilder:
    """Builds the graph of one model's text encoder."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self._config = config
        self._weights = weights

    def build(self) -> ov.Model:
        """Build the graph.

        Inputs
        ------
        tokens
            int32, shape (tokens,).
        buckets
            For each pair of tokens, the number that `bucket_distances` returns for their distance; int32, shape
            (tokens, tokens).

        Returns
        -------
        The graph. It has one output, the text states: float32, shape (tokens, hidden size of the decoder).
        """
        config = self._config
        tokens, buckets = make_input(TOKENS, ov.Type.i32, [-1]), make_input(BUCKETS, ov.Type.i32, [-1, -1])
        x = ops.gather(self._make_weight(f"{TEXT}.shared"), tokens, 0)
        biases = self._make_weight(f"{TEXT}.encoder.block.0.layer.0.SelfAttention.relative_attention_bias")
        bias = ops.unsqueeze(ops.transpose(ops.gather(biases, buckets, 0), [2, 0, 1]), 0)
        for block in range(config.text.layers):
            prefix = f"{TEXT}.encoder.block.{block}.layer"
            x = ops.add(x, self._attend(f"{prefix}.0", x, bias))
            x = ops.add(x, self._feed_forward(f"{prefix}.1", x))
        x = self._norm(f"{TEXT}.encoder.final_layer_norm", x)
        if config.projected:
            x = ops.add(self._multiply(x, PROJECTION), ops.constant(self._weights.read(f"{PROJECTION}.bias")[None]))
        return ov.Model([ops.result(x)], [tokens, buckets], "text")

    def _attend(self, prefix: str, x: Any, bias: Any) -> Any:
        normed = self._norm(f"{prefix}.layer_norm", x)
        queries, keys, values = (
            self._split_heads(self._multiply(normed, f"{prefix}.SelfAttention.{part}")) for part in "qkv"
        )
        # T5 does not scale its scores.
        attended = ops.scaled_dot_product_attention(queries, keys, values, bias, np.float32(1))
        flat = ops.reshape(
            ops.transpose(attended, [0, 2, 1, 3]), [-1, self._config.text.heads * self._config.text.head], False
        )
        return self._multiply(flat, f"{prefix}.SelfAttention.o")

    def _split_heads(self, x: Any) -> Any:
        """Split the heads: reshape from (tokens, heads * head) to (1, heads, tokens, head)."""
        text = self._config.text
        return ops.transpose(ops.reshape(x, [1, -1, text.heads, text.head], False), [0, 2, 1, 3])

    def _feed_forward(self, prefix: str, x: Any) -> Any:
        wide = self._multiply(self._norm(f"{prefix}.layer_norm", x), f"{prefix}.DenseReluDense.wi")
        # ``ops.relu`` is not used here: OpenVINO would fuse it into the product, and then keep three more copies of the
        # weights in other layouts.
        return self._multiply(ops.maximum(wide, np.float32(0)), f"{prefix}.DenseReluDense.wo")

    def _norm(self, name: str, x: Any) -> Any:
        """Scale each row of x to a root mean square of 1, and multiply it by the weights of the norm."""
        square = ops.reduce_mean(ops.power(x, np.float32(2)), [-1], True)
        root = ops.sqrt(ops.add(square, np.float32(self._config.text.epsilon)))
        normed = ops.multiply(x, ops.divide(np.float32(1), root))
        return ops.multiply(normed, ops.constant(self._weights.read(f"{name}.weight")[None]))

    def _multiply(self, x: Any, name: str) -> Any:
        return ops.matmul(x, self._make_weight(name), False, True)

    def _make_weight(self, name: str) -> Any:
        return ops.constant(self._weights.read(f"{name}.weight"), shared_memory=True)
