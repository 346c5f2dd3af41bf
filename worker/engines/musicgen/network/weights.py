"""The decoder's weights, fused for speed, where the network computes.

References
----------
Copet et al. 2023, "Simple and controllable music generation"; ``modeling_musicgen.py`` of transformers.
"""

import math
from typing import Any

import numpy as np
from mindspore import Tensor, mutable
from numpy.typing import NDArray

from worker.engines.musicgen.configuration import DecoderConfig
from worker.engines.musicgen.network.layers import Target, fold_gelu
from worker.engines.musicgen.tensors import DECODER, HEADS
from worker.engines.musicgen.weights import Weights


class DecoderWeights:
    """The decoder's weights, where it computes; inputs of its cells.

    The matrices for queries, keys and values are one, with the attention's scale
    in the queries' part; so are the heads of all codebooks, and their embeddings.

    Attributes
    ----------
    layers
        Of each layer: scale and shift before the self-attention, its matrices qkv and out; scale and shift before
        the cross-attention, its matrices q and out; scale and shift before the feed-forward part, and its two.
    cross_kv
        Of each layer, the matrix that makes keys and values from text, shape (2 * hidden, hidden).
    embeddings
        Shape (codebooks * (vocabulary + 1), hidden), and of the positions, shape (positions, hidden).
    head
        Scale and shift of the last norm, and the matrix, shape (codebooks * vocabulary, hidden).
    """

    def __init__(self, config: DecoderConfig, weights: Weights, target: Target) -> None:
        self.config = config
        self.target = target
        prefixes = [f"{DECODER}.layers.{layer}" for layer in range(config.layers)]
        codebooks = range(config.codebooks)

        def hold(*names: str) -> Tensor:
            return target.hold(np.concatenate([weights.read(name) for name in names]))

        self.layers = mutable(tuple(self._hold_layer(weights, prefix) for prefix in prefixes))
        self.cross_kv = mutable(
            tuple(hold(*(f"{prefix}.encoder_attn.{part}_proj.weight" for part in "kv")) for prefix in prefixes)
        )
        places = target.hold(make_places(config.positions, config.hidden))
        self.embeddings = mutable((hold(*(f"{DECODER}.embed_tokens.{index}.weight" for index in codebooks)), places))
        norm = f"{DECODER}.layer_norm"
        self.head = mutable(
            (hold(f"{norm}.weight"), hold(f"{norm}.bias"), hold(*(f"{HEADS}.{index}.weight" for index in codebooks)))
        )

    @property
    def inputs(self) -> tuple[Any, Any, Any]:
        """What `DecoderCell` takes of them."""
        return self.layers, self.embeddings, self.head

    def _hold_layer(self, weights: Weights, prefix: str) -> tuple[Tensor, ...]:
        hidden = self.config.hidden
        scale = np.float32((hidden // self.config.heads) ** -0.5)

        def read(name: str) -> NDArray[np.float32]:
            return weights.read(f"{prefix}.{name}")

        qkv = np.concatenate([read(f"self_attn.{part}_proj.weight") for part in "qkv"])
        qkv[:hidden] *= scale
        values = (
            read("self_attn_layer_norm.weight"),
            read("self_attn_layer_norm.bias"),
            qkv,
            read("self_attn.out_proj.weight"),
            read("encoder_attn_layer_norm.weight"),
            read("encoder_attn_layer_norm.bias"),
            read("encoder_attn.q_proj.weight") * scale,
            read("encoder_attn.out_proj.weight"),
            read("final_layer_norm.weight"),
            read("final_layer_norm.bias"),
            fold_gelu(read("fc1.weight")),
            fold_gelu(read("fc2.weight")),
        )
        return tuple(self.target.hold(array) for array in values)


def make_places(positions: int, hidden: int) -> NDArray[np.float32]:
    """Make the sinusoidal embeddings of positions, cosines first.

    Returns
    -------
    Shape (positions, hidden).
    """
    half = hidden // 2
    pace = np.exp(np.arange(half, dtype=np.float32) * np.float32(-math.log(10_000) / (half - 1)))
    angles = np.arange(positions, dtype=np.float32)[:, None] * pace
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
