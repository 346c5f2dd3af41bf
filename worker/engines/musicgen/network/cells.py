"""The decoder's cells: text to the cross-attention's keys and values, a chunk of one row, a step of all rows.

A cell reads the caches that it is handed; what is to be added to them it
returns, for `Cache.write`. One cell serves every shape: MindSpore compiles its
``construct`` once for each, which takes seconds.
"""

from typing import Any, Final

import mindspore
from mindspore import Tensor, nn, ops

from worker.engines.musicgen.network.layers import MASKED, Linear
from worker.engines.musicgen.network.weights import DecoderWeights

NORM_EPSILON: Final = 1e-5

# MindSpore's compiler reads the source: what a method calls stands in ``self``, and types are its own business.


class CrossCell(nn.Cell):
    """Keys and values of the cross-attention, which do not change while a row is decoded."""

    def __init__(self, weights: DecoderWeights, tokens: int) -> None:
        super().__init__()
        self.cross_kv = weights.cross_kv
        self.layers = weights.config.layers
        self.linear = Linear(weights.target, tokens)

    @mindspore.jit
    def construct(self, states: Any) -> Any:
        """Project.

        Parameters
        ----------
        states
            Shape (tokens, hidden).

        Returns
        -------
        One tensor per layer, shape (tokens, 2 * hidden): keys, then values.
        """
        outputs: Any = ()
        for layer in range(self.layers):
            outputs = (*outputs, self.linear(states, self.cross_kv[layer]))
        return outputs


class DecoderCell(nn.Cell):
    """What steps and chunks have in common.

    Parameters
    ----------
    rows, positions
        How many rows are read at once, and how many positions of each.
    """

    def __init__(self, weights: DecoderWeights, rows: int, positions: int) -> None:
        super().__init__()
        config = weights.config
        self.rows, self.positions = rows, positions
        self.layers, self.hidden = config.layers, config.hidden
        self.heads, self.head = config.heads, config.hidden // config.heads
        self.embeddings, self.places = weights.embeddings, weights.places
        self.qkv, self.out = weights.qkv, weights.out
        self.cross_q, self.cross_out = weights.cross_q, weights.cross_out
        self.fc1, self.fc2 = weights.fc1, weights.fc2
        self.scale_1, self.scale_2, self.scale_3 = weights.scale_1, weights.scale_2, weights.scale_3
        self.shift_1, self.shift_2, self.shift_3 = weights.shift_1, weights.shift_2, weights.shift_3
        self.offsets = Tensor([[index * (config.vocabulary + 1) for index in range(config.codebooks)]], mindspore.int32)
        self.linear = Linear(weights.target, rows * positions)
        self.norm = ops.LayerNorm(-1, -1, NORM_EPSILON)
        self.score = ops.BatchMatMul(transpose_b=True)
        self.blend = ops.BatchMatMul()
        self.softmax = ops.Softmax(-1)
        self.gather = ops.Gather()
        self.concat = ops.Concat(-1)
        self.split = ops.Split(1, 3)

    def embed(self, tokens: Any, places: Any) -> Any:
        """Sum the embeddings of tokens, shape (n, codebooks), and of places, shape (n,)."""
        return self.gather(self.embeddings, tokens + self.offsets, 0).sum(1) + self.gather(self.places, places, 0)

    def part(self, x: Any) -> Any:
        """Take the heads apart: (rows * positions, hidden) to (rows, heads, positions, head)."""
        if self.positions == 1:
            return x.reshape(self.rows, self.heads, 1, self.head)
        return x.reshape(self.rows, self.positions, self.heads, self.head).transpose(0, 2, 1, 3)

    def join(self, x: Any) -> Any:
        """Put the heads together again."""
        if self.positions == 1:
            return x.reshape(self.rows, self.hidden)
        return x.transpose(0, 2, 1, 3).reshape(self.rows * self.positions, self.hidden)

    def attend(self, x: Any, layer: int, keys: Any, values: Any, mask: Any, causal: Any) -> Any:
        """Attend to the cache and to what is read now; return the sum, and what the cache is to hold."""
        normed = self.norm(x, self.scale_1[layer], self.shift_1[layer])[0]
        query, key, value = self.split(self.linear(normed, self.qkv[layer]))
        query = self.part(query)
        before = self.score(query, keys) + mask
        now = self.score(query, self.part(key))
        if self.positions > 1:
            now = now + causal
        share = self.softmax(self.concat((before, now)))
        blended = self.blend(share[:, :, :, : keys.shape[2]], values)
        blended = blended + self.blend(share[:, :, :, keys.shape[2] :], self.part(value))
        return x + self.linear(self.join(blended), self.out[layer]), key, value

    def cross(self, x: Any, layer: int, keys: Any, values: Any, mask: Any) -> Any:
        """Attend to the text."""
        normed = self.norm(x, self.scale_2[layer], self.shift_2[layer])[0]
        query = self.part(self.linear(normed, self.cross_q[layer]))
        share = self.softmax(self.score(query, keys) + mask)
        return x + self.linear(self.join(self.blend(share, values)), self.cross_out[layer])

    def feed_forward(self, x: Any, layer: int) -> Any:
        """Apply the feed-forward part."""
        normed = self.norm(x, self.scale_3[layer], self.shift_3[layer])[0]
        return x + self.linear.feed_forward(normed, self.fc1[layer], self.fc2[layer])


class StepCell(DecoderCell):
    """One position of every row."""

    def __init__(self, weights: DecoderWeights, rows: int) -> None:
        super().__init__(weights, rows, 1)
        self.last_scale, self.last_shift = weights.last_scale, weights.last_shift
        self.logits = weights.heads

    @mindspore.jit
    def construct(
        self,
        tokens: Any,
        places: Any,
        mask: Any,
        text_mask: Any,
        keys: Any,
        values: Any,
        cross_keys: Any,
        cross_values: Any,
    ) -> Any:
        """Step.

        Parameters
        ----------
        tokens
            Shape (rows, codebooks), int32.
        places
            Shape (rows,), int32: the position that each row reads.
        mask, text_mask
            Added to the scores of what the caches hold, shape (rows, 1, 1, capacity): 0, or `MASKED`.
        keys, values, cross_keys, cross_values
            Per layer, shape (rows, heads, capacity, head).

        Returns
        -------
        The logits, shape (rows, codebooks * vocabulary), then a key and a value per layer, shape (rows, hidden).
        """
        x = self.embed(tokens, places)
        outputs: Any = ()
        for layer in range(self.layers):
            x, key, value = self.attend(x, layer, keys[layer], values[layer], mask, None)
            x = self.cross(x, layer, cross_keys[layer], cross_values[layer], text_mask)
            x = self.feed_forward(x, layer)
            outputs = (*outputs, key, value)
        x = self.norm(x, self.last_scale, self.last_shift)[0]
        return (self.linear(x, self.logits), *outputs)


class ChunkCell(DecoderCell):
    """Several positions of one row, whose tokens are known: no logits."""

    def __init__(self, weights: DecoderWeights, positions: int) -> None:
        super().__init__(weights, 1, positions)
        later = [[0.0 if key <= query else MASKED for key in range(positions)] for query in range(positions)]
        self.causal = Tensor([[later]], weights.target.floats)

    @mindspore.jit
    def construct(
        self,
        tokens: Any,
        places: Any,
        mask: Any,
        text_mask: Any,
        keys: Any,
        values: Any,
        cross_keys: Any,
        cross_values: Any,
    ) -> Any:
        """Read; as `StepCell`, with one row's caches, tokens of shape (positions, codebooks) and no logits."""
        x = self.embed(tokens, places)
        outputs: Any = ()
        for layer in range(self.layers):
            x, key, value = self.attend(x, layer, keys[layer], values[layer], mask, self.causal)
            x = self.cross(x, layer, cross_keys[layer], cross_values[layer], text_mask)
            x = self.feed_forward(x, layer)
            outputs = (*outputs, key, value)
        return outputs
