"""The decoder's cells: from text to the cross-attention's keys and values, and the decoder's layers.

A cell owns nothing: it reads the weights and the caches that it is handed, and
what is to be added to the caches it returns, for `Cache.write`. MindSpore
compiles its ``construct`` once for each shape, which takes seconds.
"""

from typing import Any, Final

import mindspore
from mindspore import Tensor, nn, ops

from worker.engines.musicgen.configuration import DecoderConfig
from worker.engines.musicgen.network.layers import MASKED, Linear, Target

NORM_EPSILON: Final = 1e-5

# MindSpore's compiler reads the source: what a method calls stands in ``self``, and types are its own business.


class CrossCell(nn.Cell):
    """Keys and values of the cross-attention, which do not change while a row is decoded."""

    def __init__(self, config: DecoderConfig, target: Target, tokens: int) -> None:
        super().__init__()
        self.layers = config.layers
        self.linear = Linear(target, tokens)

    @mindspore.jit
    def construct(self, states: Any, matrices: Any) -> Any:
        """Project.

        Parameters
        ----------
        states
            Shape (tokens, hidden).
        matrices
            `DecoderWeights.cross_kv`.

        Returns
        -------
        One tensor per layer, shape (tokens, 2 * hidden): keys, then values.
        """
        outputs: Any = ()
        for layer in range(self.layers):
            outputs = (*outputs, self.linear(states, matrices[layer]))
        return outputs


class DecoderCell(nn.Cell):
    """Reads one position of several rows, or several positions of one row.

    Parameters
    ----------
    rows, positions
        How many rows are read at once, and how many positions of each. Several
        positions are known already, so nobody asks for their logits.
    """

    def __init__(self, config: DecoderConfig, target: Target, rows: int, positions: int) -> None:
        super().__init__()
        self.rows, self.positions = rows, positions
        self.layers, self.hidden = config.layers, config.hidden
        self.heads, self.head = config.heads, config.hidden // config.heads
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

    def embed(self, tokens: Any, places: Any, embeddings: Any) -> Any:
        """Sum the embeddings of tokens, shape (n, codebooks), and of places, shape (n,)."""
        return self.gather(embeddings[0], tokens + self.offsets, 0).sum(1) + self.gather(embeddings[1], places, 0)

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

    def attend(self, x: Any, weights: Any, keys: Any, values: Any, mask: Any) -> Any:
        """Attend to the cache and to what is read now; return the sum, and what the cache is to hold."""
        normed = self.norm(x, weights[0], weights[1])[0]
        query, key, value = self.split(self.linear(normed, weights[2]))
        query = self.part(query)
        before = self.score(query, keys) + mask
        now = self.score(query, self.part(key))
        if self.positions > 1:
            now = now + self.causal
        share = self.softmax(self.concat((before, now)))
        blended = self.blend(share[:, :, :, : keys.shape[2]], values)
        blended = blended + self.blend(share[:, :, :, keys.shape[2] :], self.part(value))
        return x + self.linear(self.join(blended), weights[3]), key, value

    def cross(self, x: Any, weights: Any, keys: Any, values: Any, mask: Any) -> Any:
        """Attend to the text."""
        normed = self.norm(x, weights[4], weights[5])[0]
        query = self.part(self.linear(normed, weights[6]))
        share = self.softmax(self.score(query, keys) + mask)
        return x + self.linear(self.join(self.blend(share, values)), weights[7])

    def feed_forward(self, x: Any, weights: Any) -> Any:
        """Apply the feed-forward part."""
        normed = self.norm(x, weights[8], weights[9])[0]
        return x + self.linear.feed_forward(normed, weights[10], weights[11])

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
        layers: Any,
        embeddings: Any,
        head: Any,
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
        layers, embeddings, head
            See `DecoderWeights`.

        Returns
        -------
        A key and a value per layer, shape (rows * positions, hidden); where one position is read, the logits of
        the next go before them, shape (rows, codebooks * vocabulary).
        """
        x = self.embed(tokens, places, embeddings)
        outputs: Any = ()
        for layer in range(self.layers):
            x, key, value = self.attend(x, layers[layer], keys[layer], values[layer], mask)
            x = self.cross(x, layers[layer], cross_keys[layer], cross_values[layer], text_mask)
            x = self.feed_forward(x, layers[layer])
            outputs = (*outputs, key, value)
        if self.positions > 1:
            return outputs
        x = self.norm(x, head[0], head[1])[0]
        return (self.linear(x, head[2]), *outputs)
