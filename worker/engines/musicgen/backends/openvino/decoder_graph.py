"""The decoder as OpenVINO's graphs, built from the weights by its own operators.

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

from worker.engines.musicgen.backends.openvino.weight_formats import HOLDERS
from worker.engines.musicgen.model.configuration import DecoderConfig
from worker.engines.musicgen.model.sinusoids import make_sinusoids
from worker.engines.musicgen.model.tensors import DECODER, HEADS
from worker.engines.musicgen.model.weights import Weights

EPSILON: Final = 1e-5

TOKENS: Final = "tokens"
POSITIONS: Final = "positions"
ASKED: Final = "asked"
PAST: Final = "past_lens"
BEGINS: Final = "subsequence_begins"
BLOCKS: Final = "block_indices"
BLOCKS_BEGINS: Final = "block_indices_begins"
LONGEST: Final = "max_context_len"
TEXT_MASK: Final = "text_mask"
STATES: Final = "states"


def name_caches(layer: int) -> tuple[str, str]:
    """Name the inputs that are a layer's blocks of keys and of values."""
    return f"key_cache.{layer}", f"value_cache.{layer}"


def name_text(layer: int) -> tuple[str, str]:
    """Name the inputs that are a layer's keys and values of the texts."""
    return f"text_keys.{layer}", f"text_values.{layer}"


class Builder:
    """Builds the graphs of one model.

    Parameters
    ----------
    precision
        One of ``constants.HOLDERS``.
    """

    def __init__(self, config: DecoderConfig, weights: Weights, precision: str) -> None:
        self._config = config
        self._weights = weights
        self._hold = HOLDERS[precision]
        self._head = config.hidden // config.heads
        self._inputs: list[Any] = []

    def build_step(self) -> ov.Model:
        """Build what reads one position of each row, or several of one row, and gives logits.

        Inputs
        ------
        tokens, positions
            int32, shapes (n, codebooks) and (n,).
        asked
            Of which of the n the logits are asked for; int32, shape (m,).
        past_lens, subsequence_begins, block_indices, block_indices_begins, max_context_len
            How rows lie in the caches, as OpenVINO's PagedAttention wants it.
        key_cache.N, value_cache.N
            Shape (blocks, heads, block, head), written in place.
        text_mask, text_keys.N, text_values.N
            As `build_texts` makes them, shapes (rows, 1, 1, tokens), (rows, heads, head, tokens) and
            (rows, heads, tokens, head).

        Returns
        -------
        One output, float32, shape (m, codebooks * vocabulary).
        """
        config = self._config
        tokens = self._take(TOKENS, ov.Type.i32, [-1, config.codebooks])
        positions = self._take(POSITIONS, ov.Type.i32, [-1])
        asked = self._take(ASKED, ov.Type.i32, [-1])
        paging = [self._take(name, ov.Type.i32, [-1]) for name in (PAST, BEGINS, BLOCKS, BLOCKS_BEGINS)]
        longest = self._take(LONGEST, ov.Type.i32, [])
        mask = self._take(TEXT_MASK, ov.Type.f32, [-1, 1, 1, -1])
        rows = ops.gather(ops.shape_of(mask), _ints(0), _ints(0))
        text_shape = ops.concat([ops.unsqueeze(rows, _ints(0)), _ints([-1, config.heads, self._head])], 0)
        hidden = self._embed(tokens, positions)
        for layer in range(config.layers):
            prefix = f"{DECODER}.layers.{layer}"
            hidden = ops.add(hidden, self._attend(prefix, layer, hidden, paging, longest))
            hidden = ops.add(hidden, self._attend_text(prefix, layer, hidden, mask, text_shape))
            hidden = ops.add(hidden, self._feed_forward(prefix, hidden))
        last = self._norm(f"{DECODER}.layer_norm", ops.gather(hidden, asked, _ints(0)))
        logits = self._multiply(last, *(f"{HEADS}.{index}.weight" for index in range(config.codebooks)))
        return self._finish([logits], "step")

    def build_texts(self) -> ov.Model:
        """Build what makes each layer's keys and values of a text.

        Inputs
        ------
        states
            float32, shape (tokens, hidden).

        Returns
        -------
        Two outputs per layer: keys, shape (1, heads, head, tokens), and values, shape (1, heads, tokens, head).
        """
        states = self._take(STATES, ov.Type.f32, [-1, self._config.hidden])
        outputs = []
        for layer in range(self._config.layers):
            keys, values = (self._project_text(states, layer, part) for part in "kv")
            # Turned and scaled here, once per text, and not in each step.
            scaled = ops.multiply(keys, np.float32(self._head**-0.5))
            outputs += [ops.transpose(scaled, _ints([0, 2, 3, 1])), _turn(values)]
        return self._finish(outputs, "texts")

    def _project_text(self, states: Any, layer: int, part: str) -> Any:
        projected = self._multiply(states, f"{DECODER}.layers.{layer}.encoder_attn.{part}_proj.weight")
        return ops.reshape(projected, _ints([1, -1, self._config.heads, self._head]), False)

    def _take(self, name: str, kind: ov.Type, shape: list[int]) -> Any:
        node = take(name, kind, shape)
        self._inputs.append(node)
        return node

    def _finish(self, outputs: list[Any], name: str) -> ov.Model:
        model = ov.Model([ops.result(output) for output in outputs], self._inputs, name)
        self._inputs = []
        tell_heads(model, self._config)
        return model

    def _embed(self, tokens: Any, positions: Any) -> Any:
        """Add up the embeddings of all codebooks, whose tables lie one after the other, and the position's."""
        config = self._config
        tables = self._join(*(f"{DECODER}.embed_tokens.{index}.weight" for index in range(config.codebooks)))
        firsts = _ints([[index * (config.vocabulary + 1) for index in range(config.codebooks)]], np.int32)
        embedded = ops.gather(ops.constant(tables), ops.add(tokens, firsts), _ints(0))
        places = ops.constant(make_sinusoids(config.positions, config.hidden))
        return ops.add(ops.reduce_sum(embedded, _ints([1]), False), ops.gather(places, positions, _ints(0)))

    def _attend(self, prefix: str, layer: int, hidden: Any, paging: list[Any], longest: Any) -> Any:
        normed = self._norm(f"{prefix}.self_attn_layer_norm", hidden)
        fused = self._multiply(normed, *(f"{prefix}.self_attn.{part}_proj.weight" for part in "qkv"))
        caches = [self._take(name, ov.Type.dynamic, [-1, self._config.heads, -1, -1]) for name in name_caches(layer)]
        attention = PagedAttention(
            [
                *ops.split(fused, _ints(1), 3).outputs(),
                *(node.output(0) for node in (*caches, *paging, ops.constant(np.float32(self._head**-0.5)))),
                *_decline_options(longest),
            ]
        )
        return self._multiply(attention.output(0), f"{prefix}.self_attn.out_proj.weight")

    def _attend_text(self, prefix: str, layer: int, hidden: Any, mask: Any, shape: Any) -> Any:
        normed = self._norm(f"{prefix}.encoder_attn_layer_norm", hidden)
        queries = _turn(ops.reshape(self._multiply(normed, f"{prefix}.encoder_attn.q_proj.weight"), shape, False))
        heads, (keys, values) = self._config.heads, name_text(layer)
        scores = ops.matmul(queries, self._take(keys, ov.Type.f32, [-1, heads, self._head, -1]), False, False)
        weights = ops.softmax(ops.add(scores, mask), -1)
        found = _turn(ops.matmul(weights, self._take(values, ov.Type.f32, [-1, heads, -1, self._head]), False, False))
        flat = ops.reshape(found, _ints([-1, self._config.hidden]), False)
        return self._multiply(flat, f"{prefix}.encoder_attn.out_proj.weight")

    def _feed_forward(self, prefix: str, hidden: Any) -> Any:
        wide = self._multiply(self._norm(f"{prefix}.final_layer_norm", hidden), f"{prefix}.fc1.weight")
        return self._multiply(ops.gelu(wide, "erf"), f"{prefix}.fc2.weight")

    def _norm(self, name: str, hidden: Any) -> Any:
        normed = ops.mvn(hidden, _ints([-1]), True, EPSILON, "inside_sqrt")
        scale, shift = (ops.constant(self._weights.read(f"{name}.{part}")[None]) for part in ("weight", "bias"))
        return ops.add(ops.multiply(normed, scale), shift)

    def _multiply(self, rows: Any, *names: str) -> Any:
        return ops.matmul(rows, self._hold(self._join(*names)), False, True)

    def _join(self, *names: str) -> NDArray[np.float32]:
        return np.concatenate([self._weights.read(name) for name in names])


def tell_heads(model: ov.Model, config: DecoderConfig) -> None:
    """Tell the attention how its inputs divide into heads, which OpenVINO's files do not keep."""
    for node in model.get_ops():
        if node.get_type_name() == "PagedAttentionExtension":
            facts = node.get_rt_info()
            for name in ("k", "v"):
                facts[f"num_{name}_heads"] = config.heads
                facts[f"{name}_head_size"] = config.hidden // config.heads


def take(name: str, kind: ov.Type, shape: list[int]) -> Any:
    """Make an input of a graph, which it is given by name."""
    node = ops.parameter(ov.PartialShape(shape), kind, name)
    node.output(0).set_names({name})
    return node


def _ints(values: Any, kind: type[np.signedinteger[Any]] = np.int64) -> Any:
    return ops.constant(np.array(values, dtype=kind))


def _turn(blocks: Any) -> Any:
    """Exchange rows' tokens and heads, shape (rows, tokens, heads, head) or the other way round."""
    return ops.transpose(blocks, _ints([0, 2, 1, 3]))


def _decline_options(longest: Any) -> list[Any]:
    """Return PagedAttention's inputs after the scale: all that it could do besides is left out."""

    def nothing(kind: type[np.generic], rank: int = 1) -> Any:
        return ops.constant(np.zeros((0,) * rank, dtype=kind)).output(0)

    def zero() -> Any:
        return ops.constant(np.int32(0)).output(0)

    ints, floats = np.int32, np.float32
    return [
        zero(),  # sliding window
        nothing(floats),  # ALiBi's slopes
        longest.output(0),
        nothing(ints),  # scores added up
        *(nothing(ints), nothing(ints), nothing(floats)),  # rotation of blocks
        *(nothing(floats), zero(), zero()),  # sparse attention
        nothing(floats, 4),  # sinks
        *(zero(), nothing(ints), nothing(ints), nothing(ints)),  # eviction by diversity
        *(nothing(ints), nothing(np.uint8), nothing(ints)),  # bias between queries
    ]
