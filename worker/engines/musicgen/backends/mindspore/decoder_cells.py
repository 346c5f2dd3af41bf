"""The decoder's cells: the projection of texts to the cross-attention's keys and values, and the decoder's layers.

A cell reads the caches but does not change them. It returns new keys and values, which
`KvCache.write` then adds to the caches. MindSpore compiles the method ``construct`` of a
cell once for each shape, which takes seconds.
"""

from typing import Any, Final

import mindspore
from mindspore import Tensor, nn, ops

from worker.engines.musicgen.backends.mindspore.layers import MASKED, Linear
from worker.engines.musicgen.backends.mindspore.weights import TENSORS_PER_LAYER, DecoderWeights

NORM_EPSILON: Final = 1e-5

# MindSpore's compiler reads the source of the methods below. So the operators that these methods call are attributes of
# ``self``. The methods are called with types of MindSpore's compiler, hence ``Any``.


class CrossKeyValueCell(nn.Cell):
    """Computes the keys and values of the cross-attention. They do not change while a sequence is decoded."""

    def __init__(self, weights: DecoderWeights, tokens: int) -> None:
        super().__init__()
        self.layers = weights.config.layers
        self.cross_kv = weights.cross_kv
        self.linear = Linear(weights.target, tokens)

    @mindspore.jit
    def construct(self, states: Any) -> Any:
        """Project text states to keys and values.

        Parameters
        ----------
        states
            Shape (tokens, hidden).

        Returns
        -------
        One tensor per layer, shape (tokens, 2 * hidden): in each row the key of a token, and after it the value.
        """
        outputs: Any = ()
        for layer in range(self.layers):
            outputs = (*outputs, self.linear(states, self.cross_kv[layer]))
        return outputs


class DecoderCell(nn.Cell):
    """Reads one position of each row, or several positions of one row.

    Parameters
    ----------
    rows, positions
        How many rows are read at once, and how many positions of each row. If there are several positions, all their
        tokens are known already, and no logits are computed.
    """

    def __init__(self, weights: DecoderWeights, rows: int, positions: int) -> None:
        super().__init__()
        config, target = weights.config, weights.target
        self.rows, self.positions = rows, positions
        self.layers, self.hidden, self.tensors_per_layer = config.layers, config.hidden, TENSORS_PER_LAYER
        self.heads, self.head = config.heads, config.hidden // config.heads
        self.weights, self.head_weights = weights.layers, weights.head
        self.embeddings = weights.embeddings
        self.offsets = Tensor([[index * (config.vocabulary + 1) for index in range(config.codebooks)]], mindspore.int32)
        causal = [[0.0 if key <= query else MASKED for key in range(positions)] for query in range(positions)]
        self.causal_mask = Tensor([[causal]], target.dtype)
        self.linear = Linear(target, rows * positions)
        self.norm = ops.LayerNorm(-1, -1, NORM_EPSILON)
        self.score = ops.BatchMatMul(transpose_b=True)
        self.weighted_sum = ops.BatchMatMul()
        self.softmax = ops.Softmax(-1)
        self.gather = ops.Gather()
        self.concat = ops.Concat(-1)
        self.split = ops.Split(1, 3)

    def embed(self, tokens: Any, positions: Any) -> Any:
        """Add up the embeddings of ``tokens``, shape (n, codebooks), and of ``positions``, shape (n,)."""
        return self.gather(self.embeddings[0], tokens + self.offsets, 0).sum(1) + self.gather(
            self.embeddings[1], positions, 0
        )

    def split_heads(self, x: Any) -> Any:
        """Split the heads: reshape from (rows * positions, hidden) to (rows, heads, positions, head)."""
        if self.positions == 1:
            return x.reshape(self.rows, self.heads, 1, self.head)
        return x.reshape(self.rows, self.positions, self.heads, self.head).transpose(0, 2, 1, 3)

    def join_heads(self, x: Any) -> Any:
        """Join the heads: reshape from (rows, heads, positions, head) to (rows * positions, hidden)."""
        if self.positions == 1:
            return x.reshape(self.rows, self.hidden)
        return x.transpose(0, 2, 1, 3).reshape(self.rows * self.positions, self.hidden)

    def attend(self, x: Any, first: int, keys: Any, values: Any, mask: Any) -> Any:
        """Attend to the cached positions and to the new positions.

        Parameters
        ----------
        first
            Index in ``weights`` of the first tensor of the layer.

        Returns
        -------
        The sum of ``x`` and the result of the attention; the keys of the new positions; the values of the new
        positions.
        """
        normed = self.norm(x, self.weights[first], self.weights[first + 1])[0]
        query, key, value = self.split(self.linear(normed, self.weights[first + 2]))
        query = self.split_heads(query)
        cached_scores = self.score(query, keys) + mask
        new_scores = self.score(query, self.split_heads(key))
        if self.positions > 1:
            new_scores = new_scores + self.causal_mask
        probabilities = self.softmax(self.concat((cached_scores, new_scores)))
        attended = self.weighted_sum(probabilities[:, :, :, : keys.shape[2]], values)
        attended = attended + self.weighted_sum(probabilities[:, :, :, keys.shape[2] :], self.split_heads(value))
        return x + self.linear(self.join_heads(attended), self.weights[first + 3]), key, value

    def attend_text(self, x: Any, first: int, keys: Any, values: Any, mask: Any) -> Any:
        """Attend to the text; return the sum of ``x`` and the result of the attention."""
        normed = self.norm(x, self.weights[first + 4], self.weights[first + 5])[0]
        query = self.split_heads(self.linear(normed, self.weights[first + 6]))
        probabilities = self.softmax(self.score(query, keys) + mask)
        attended = self.join_heads(self.weighted_sum(probabilities, values))
        return x + self.linear(attended, self.weights[first + 7])

    def feed_forward(self, x: Any, first: int) -> Any:
        """Apply the feed-forward part of a layer; return the sum of ``x`` and the result."""
        normed = self.norm(x, self.weights[first + 8], self.weights[first + 9])[0]
        return x + self.linear.feed_forward(normed, self.weights[first + 10], self.weights[first + 11])

    @mindspore.jit
    def construct(
        self,
        tokens: Any,
        positions: Any,
        mask: Any,
        text_mask: Any,
        keys: Any,
        values: Any,
        cross_keys: Any,
        cross_values: Any,
    ) -> Any:
        """Read the tokens of new positions.

        Parameters
        ----------
        tokens
            Shape (rows * positions, codebooks), int32.
        positions
            Shape (rows * positions,), int32.
        mask, text_mask
            Added to the attention scores of the positions in the caches, shape (rows, 1, 1, capacity): 0 for
            positions that are attended to, `MASKED` for all other positions.
        keys, values, cross_keys, cross_values
            The caches: one tensor per layer, shape (rows, heads, capacity, head).

        Returns
        -------
        Two tensors per layer, the keys and the values of the new positions, shape (rows * positions, hidden). If one
        position of each row is read, these tensors come after a tensor of logits for the next position of each row,
        shape (rows, codebooks * vocabulary).
        """
        x = self.embed(tokens, positions)
        outputs: Any = ()
        for layer in range(self.layers):
            first = self.tensors_per_layer * layer
            x, key, value = self.attend(x, first, keys[layer], values[layer], mask)
            x = self.attend_text(x, first, cross_keys[layer], cross_values[layer], text_mask)
            x = self.feed_forward(x, first)
            outputs = (*outputs, key, value)
        if self.positions > 1:
            return outputs
        x = self.norm(x, self.head_weights[0], self.head_weights[1])[0]
        return (self.linear(x, self.head_weights[2]), *outputs)
