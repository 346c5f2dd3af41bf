"""The decoder's cells: from text to the cross-attention's keys and values, and the decoder's layers.

A cell reads the caches that it is handed, and what is to be added to them it
returns, for `Cache.write`. MindSpore compiles its ``construct`` once for each shape, which takes seconds.
"""

from typing import Any, Final

import mindspore
from mindspore import Tensor, nn, ops

from worker.engines.musicgen.backends.mindspore.layers import MASKED, Linear
from worker.engines.musicgen.backends.mindspore.weights import LAYER_PARTS, DecoderWeights

NORM_EPSILON: Final = 1e-5

# MindSpore's compiler reads the source: what a method calls stands in ``self``, and types are its own business.


class CrossCell(nn.Cell):
    """Keys and values of the cross-attention, which do not change while a row is decoded."""

    def __init__(self, weights: DecoderWeights, tokens: int) -> None:
        super().__init__()
        self.layers = weights.config.layers
        self.cross_kv = weights.cross_kv
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
    """Reads one position of several rows, or several positions of one row.

    Parameters
    ----------
    rows, positions
        How many rows are read at once, and how many positions of each. Several
        positions are known already, so nobody asks for their logits.
    """

    def __init__(self, weights: DecoderWeights, rows: int, positions: int) -> None:
        super().__init__()
        config, target = weights.config, weights.target
        self.rows, self.positions = rows, positions
        self.layers, self.hidden, self.parts = config.layers, config.hidden, LAYER_PARTS
        self.heads, self.head = config.heads, config.hidden // config.heads
        self.weights, self.head_weights = weights.layers, weights.head
        self.embeddings = weights.embeddings
        self.offsets = Tensor([[index * (config.vocabulary + 1) for index in range(config.codebooks)]], mindspore.int32)
        later = [[0.0 if key <= query else MASKED for key in range(positions)] for query in range(positions)]
        self.causal = Tensor([[later]], target.floats)
        self.linear = Linear(target, rows * positions)
        self.norm = ops.LayerNorm(-1, -1, NORM_EPSILON)
        self.score = ops.BatchMatMul(transpose_b=True)
        self.blend = ops.BatchMatMul()
        self.softmax = ops.Softmax(-1)
        self.gather = ops.Gather()
        self.concat = ops.Concat(-1)
        self.split = ops.Split(1, 3)

    def embed(self, tokens: Any, places: Any) -> Any:
        """Sum the embeddings of tokens, shape (n, codebooks), and of places, shape (n,)."""
        return self.gather(self.embeddings[0], tokens + self.offsets, 0).sum(1) + self.gather(
            self.embeddings[1], places, 0
        )

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

    def attend(self, x: Any, at: int, keys: Any, values: Any, mask: Any) -> Any:
        """Attend to the cache and to what is read now; return the sum, and what the cache is to hold."""
        normed = self.norm(x, self.weights[at], self.weights[at + 1])[0]
        query, key, value = self.split(self.linear(normed, self.weights[at + 2]))
        query = self.part(query)
        before = self.score(query, keys) + mask
        now = self.score(query, self.part(key))
        if self.positions > 1:
            now = now + self.causal
        share = self.softmax(self.concat((before, now)))
        blended = self.blend(share[:, :, :, : keys.shape[2]], values)
        blended = blended + self.blend(share[:, :, :, keys.shape[2] :], self.part(value))
        return x + self.linear(self.join(blended), self.weights[at + 3]), key, value

    def cross(self, x: Any, at: int, keys: Any, values: Any, mask: Any) -> Any:
        """Attend to the text."""
        normed = self.norm(x, self.weights[at + 4], self.weights[at + 5])[0]
        query = self.part(self.linear(normed, self.weights[at + 6]))
        share = self.softmax(self.score(query, keys) + mask)
        return x + self.linear(self.join(self.blend(share, values)), self.weights[at + 7])

    def feed_forward(self, x: Any, at: int) -> Any:
        """Apply the feed-forward part."""
        normed = self.norm(x, self.weights[at + 8], self.weights[at + 9])[0]
        return x + self.linear.feed_forward(normed, self.weights[at + 10], self.weights[at + 11])

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
        """Read.

        Parameters
        ----------
        tokens
            Shape (rows * positions, codebooks), int32.
        places
            Shape (rows * positions,), int32: the positions that are read.
        mask, text_mask
            Added to the scores of what the caches hold, shape (rows, 1, 1, capacity): 0, or `MASKED`.
        keys, values, cross_keys, cross_values
            Per layer, shape (rows, heads, capacity, head).

        Returns
        -------
        A key and a value per layer, shape (rows * positions, hidden); where one position is read, the logits of
        the next go before them, shape (rows, codebooks * vocabulary).
        """
        x = self.embed(tokens, places)
        outputs: Any = ()
        for layer in range(self.layers):
            x, key, value = self.attend(x, self.parts * layer, keys[layer], values[layer], mask)
            x = self.cross(x, self.parts * layer, cross_keys[layer], cross_values[layer], text_mask)
            x = self.feed_forward(x, self.parts * layer)
            outputs = (*outputs, key, value)
        if self.positions > 1:
            return outputs
        x = self.norm(x, self.head_weights[0], self.head_weights[1])[0]
        return (self.linear(x, self.head_weights[2]), *outputs)
