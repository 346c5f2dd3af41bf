"""The decoder as OpenVINO's graphs, built from the weights with OpenVINO's operators.

References
----------
Copet et al. 2023, "Simple and controllable music generation"; ``modeling_musicgen.py`` of transformers;
Kwon et al. 2023, "Efficient memory management for large language model serving with PagedAttention".
"""

from typing import Any, Final

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset16 as ops
from openvino.op import _PagedAttentionExtension as PagedAttention

from worker.engines.musicgen.backends.openvino.weight_formats import WEIGHT_FORMATS
from worker.engines.musicgen.model.configuration import DecoderConfig
from worker.engines.musicgen.model.sinusoids import make_sinusoids
from worker.engines.musicgen.model.tensors import DECODER, HEADS
from worker.engines.musicgen.model.weights import Weights

EPSILON: Final = 1e-5

TOKENS: Final = "tokens"
POSITIONS: Final = "positions"
LOGIT_INDICES: Final = "logit_indices"
PAST_LENGTHS: Final = "past_lens"
SUBSEQUENCE_BEGINS: Final = "subsequence_begins"
BLOCK_INDICES: Final = "block_indices"
BLOCK_INDICES_BEGINS: Final = "block_indices_begins"
MAX_CONTEXT_LENGTH: Final = "max_context_len"
TEXT_MASK: Final = "text_mask"
STATES: Final = "states"


def name_caches(layer: int) -> tuple[str, str]:
    """Return the names of the inputs for a layer's blocks of keys and for its blocks of values."""
    return f"key_cache.{layer}", f"value_cache.{layer}"


def name_text(layer: int) -> tuple[str, str]:
    """Return the names of the inputs for the keys and for the values of the texts in a layer."""
    return f"text_keys.{layer}", f"text_values.{layer}"


class DecoderGraphBuilder:
    """Builds the graphs of one model's decoder.

    Parameters
    ----------
    precision
        A key of ``weight_formats.WEIGHT_FORMATS``.
    """

    def __init__(self, config: DecoderConfig, weights: Weights, precision: str) -> None:
        self._config = config
        self._weights = weights
        self._make_weights = WEIGHT_FORMATS[precision]
        self._head = config.hidden // config.heads
        self._inputs: list[Any] = []

    def build_step(self) -> ov.Model:
        """Build the graph that reads n positions, one in each slot or several in one slot, and computes logits.

        Inputs
        ------
        tokens, positions
            int32, shapes (n, codebooks) and (n,).
        logit_indices
            Which of the n positions logits are computed for, as indices; int32, shape (m,).
        past_lens, subsequence_begins, block_indices, block_indices_begins, max_context_len
            They describe where the keys and values of each slot are in the caches, in the form that OpenVINO's
            PagedAttention expects.
        key_cache.N, value_cache.N
            The caches of layer N, shape (blocks, heads, block, head). The graph writes into them in place.
        text_mask
            Added to the attention scores of the texts' tokens, shape (texts, 1, 1, tokens).
        text_keys.N, text_values.N
            The keys and values of the texts in layer N: shapes (texts, heads, head, tokens) and
            (texts, heads, tokens, head). They are put together from the outputs of the graph that `build_texts`
            builds. The first n / texts positions attend to the first text, the next n / texts positions attend to the
            second text, and so on.

        Returns
        -------
        The graph. It has one output, float32, shape (m, codebooks * vocabulary).
        """
        config = self._config
        tokens = self._add_input(TOKENS, ov.Type.i32, [-1, config.codebooks])
        positions = self._add_input(POSITIONS, ov.Type.i32, [-1])
        logit_indices = self._add_input(LOGIT_INDICES, ov.Type.i32, [-1])
        paging = [
            self._add_input(name, ov.Type.i32, [-1])
            for name in (PAST_LENGTHS, SUBSEQUENCE_BEGINS, BLOCK_INDICES, BLOCK_INDICES_BEGINS)
        ]
        max_length = self._add_input(MAX_CONTEXT_LENGTH, ov.Type.i32, [])
        mask = self._add_input(TEXT_MASK, ov.Type.f32, [-1, 1, 1, -1])
        texts = ops.gather(ops.shape_of(mask), _ints(0), _ints(0))
        text_shape = ops.concat([ops.unsqueeze(texts, _ints(0)), _ints([-1, config.heads, self._head])], 0)
        hidden = self._embed(tokens, positions)
        for layer in range(config.layers):
            prefix = f"{DECODER}.layers.{layer}"
            hidden = ops.add(hidden, self._attend(prefix, layer, hidden, paging, max_length))
            hidden = ops.add(hidden, self._attend_text(prefix, layer, hidden, mask, text_shape))
            hidden = ops.add(hidden, self._feed_forward(prefix, hidden))
        last = self._norm(f"{DECODER}.layer_norm", ops.gather(hidden, logit_indices, _ints(0)))
        logits = self._multiply(last, *(f"{HEADS}.{index}.weight" for index in range(config.codebooks)))
        return self._make_model([logits], "step")

    def build_texts(self) -> ov.Model:
        """Build the graph that computes the keys and values of a text for each layer.

        Inputs
        ------
        states
            float32, shape (tokens, hidden).

        Returns
        -------
        The graph. It has two outputs per layer: keys, shape (1, heads, head, tokens), and values, shape
        (1, heads, tokens, head).
        """
        states = self._add_input(STATES, ov.Type.f32, [-1, self._config.hidden])
        outputs = []
        for layer in range(self._config.layers):
            keys, values = (self._project_text(states, layer, part) for part in "kv")
            # The keys are transposed and scaled here, once per text, and not again in each step.
            scaled = ops.multiply(keys, np.float32(self._head**-0.5))
            outputs += [ops.transpose(scaled, _ints([0, 2, 3, 1])), _swap_tokens_and_heads(values)]
        return self._make_model(outputs, "texts")

    def _project_text(self, states: Any, layer: int, part: str) -> Any:
        projected = self._multiply(states, f"{DECODER}.layers.{layer}.encoder_attn.{part}_proj.weight")
        return ops.reshape(projected, _ints([1, -1, self._config.heads, self._head]), False)

    def _add_input(self, name: str, dtype: ov.Type, shape: list[int]) -> Any:
        node = make_input(name, dtype, shape)
        self._inputs.append(node)
        return node

    def _make_model(self, outputs: list[Any], name: str) -> ov.Model:
        model = ov.Model([ops.result(output) for output in outputs], self._inputs, name)
        self._inputs = []
        set_head_sizes(model, self._config)
        return model

    def _embed(self, tokens: Any, positions: Any) -> Any:
        """Add up the embeddings of the tokens of all codebooks and the embedding of the position.

        The embedding tables of all codebooks are concatenated to one table.
        """
        config = self._config
        tables = self._join(*(f"{DECODER}.embed_tokens.{index}.weight" for index in range(config.codebooks)))
        offsets = _ints([[index * (config.vocabulary + 1) for index in range(config.codebooks)]], np.int32)
        embedded = ops.gather(ops.constant(tables), ops.add(tokens, offsets), _ints(0))
        sinusoids = ops.constant(make_sinusoids(config.positions, config.hidden))
        return ops.add(ops.reduce_sum(embedded, _ints([1]), False), ops.gather(sinusoids, positions, _ints(0)))

    def _attend(self, prefix: str, layer: int, hidden: Any, paging: list[Any], max_length: Any) -> Any:
        normed = self._norm(f"{prefix}.self_attn_layer_norm", hidden)
        qkv = self._multiply(normed, *(f"{prefix}.self_attn.{part}_proj.weight" for part in "qkv"))
        cache_shape = [-1, self._config.heads, -1, -1]
        caches = [self._add_input(name, ov.Type.dynamic, cache_shape) for name in name_caches(layer)]
        attention = PagedAttention(
            [
                *ops.split(qkv, _ints(1), 3).outputs(),
                *(node.output(0) for node in (*caches, *paging, ops.constant(np.float32(self._head**-0.5)))),
                *_make_remaining_inputs(max_length),
            ]
        )
        return self._multiply(attention.output(0), f"{prefix}.self_attn.out_proj.weight")

    def _attend_text(self, prefix: str, layer: int, hidden: Any, mask: Any, shape: Any) -> Any:
        normed = self._norm(f"{prefix}.encoder_attn_layer_norm", hidden)
        projected = self._multiply(normed, f"{prefix}.encoder_attn.q_proj.weight")
        queries = _swap_tokens_and_heads(ops.reshape(projected, shape, False))
        heads, (key_name, value_name) = self._config.heads, name_text(layer)
        keys = self._add_input(key_name, ov.Type.f32, [-1, heads, self._head, -1])
        probabilities = ops.softmax(ops.add(ops.matmul(queries, keys, False, False), mask), -1)
        values = self._add_input(value_name, ov.Type.f32, [-1, heads, -1, self._head])
        attended = _swap_tokens_and_heads(ops.matmul(probabilities, values, False, False))
        flat = ops.reshape(attended, _ints([-1, self._config.hidden]), False)
        return self._multiply(flat, f"{prefix}.encoder_attn.out_proj.weight")

    def _feed_forward(self, prefix: str, hidden: Any) -> Any:
        wide = self._multiply(self._norm(f"{prefix}.final_layer_norm", hidden), f"{prefix}.fc1.weight")
        return self._multiply(ops.gelu(wide, "erf"), f"{prefix}.fc2.weight")

    def _norm(self, name: str, hidden: Any) -> Any:
        normed = ops.mvn(hidden, _ints([-1]), True, EPSILON, "inside_sqrt")
        scale, shift = (ops.constant(self._weights.read(f"{name}.{part}")[None]) for part in ("weight", "bias"))
        return ops.add(ops.multiply(normed, scale), shift)

    def _multiply(self, x: Any, *names: str) -> Any:
        return ops.matmul(x, self._make_weights(self._join(*names)), False, True)

    def _join(self, *names: str) -> NDArray[np.float32]:
        return np.concatenate([self._weights.read(name) for name in names])


def set_head_sizes(model: ov.Model, config: DecoderConfig) -> None:
    """Set the attributes of PagedAttention for the number and the size of its heads.

    OpenVINO's files do not store these attributes.
    """
    for node in model.get_ops():
        if node.get_type_name() == "PagedAttentionExtension":
            attributes = node.get_rt_info()
            for name in ("k", "v"):
                attributes[f"num_{name}_heads"] = config.heads
                attributes[f"{name}_head_size"] = config.hidden // config.heads


def make_input(name: str, dtype: ov.Type, shape: list[int]) -> Any:
    """Make an input of a graph, with a name by which the input can be set."""
    node = ops.parameter(ov.PartialShape(shape), dtype, name)
    node.output(0).set_names({name})
    return node


def _ints(values: Any, dtype: type[np.signedinteger[Any]] = np.int64) -> Any:
    return ops.constant(np.array(values, dtype=dtype))


def _swap_tokens_and_heads(x: Any) -> Any:
    """Swap the axes of tokens and heads: from (n, tokens, heads, head) to (n, heads, tokens, head), or back."""
    return ops.transpose(x, _ints([0, 2, 1, 3]))


def _make_remaining_inputs(max_length: Any) -> list[Any]:
    """Make the inputs of PagedAttention that follow the scale.

    They are the maximum context length, and options that are switched off.
    """

    def empty(dtype: type[np.generic], rank: int = 1) -> Any:
        return ops.constant(np.zeros((0,) * rank, dtype=dtype)).output(0)

    def zero() -> Any:
        return ops.constant(np.int32(0)).output(0)

    ints, floats = np.int32, np.float32
    return [
        zero(),  # sliding window
        empty(floats),  # ALiBi's slopes
        max_length.output(0),
        empty(ints),  # accumulated scores
        *(empty(ints), empty(ints), empty(floats)),  # rotation of blocks
        *(empty(floats), zero(), zero()),  # sparse attention
        empty(floats, 4),  # sinks
        *(zero(), empty(ints), empty(ints), empty(ints)),  # eviction by diversity
        *(empty(ints), empty(np.uint8), empty(ints)),  # bias between queries
    ]
