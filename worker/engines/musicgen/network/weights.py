"""The decoder's weights, fused for speed, where the network computes.

References
----------
Copet et al. 2023, "Simple and controllable music generation"; ``modeling_musicgen.py`` of transformers.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from mindspore import ParameterTuple
from numpy.typing import NDArray

from worker.engines.musicgen.configuration import DecoderConfig
from worker.engines.musicgen.network.layers import Target, fold_gelu
from worker.engines.musicgen.tensors import DECODER, HEADS
from worker.engines.musicgen.weights import Weights


class DecoderWeights:
    """The decoder's weights, fused, where it computes; shared by the cells of every shape.

    The matrices for queries, keys and values are one, with the attention's scale
    in the queries' part; so are the heads of all codebooks, and their embeddings.
    """

    def __init__(self, config: DecoderConfig, weights: Weights, target: Target) -> None:
        self.config = config
        self.target = target
        scale = np.float32((config.hidden // config.heads) ** -0.5)

        def read(*names: str) -> NDArray[np.float32]:
            return np.concatenate([weights.read(name) for name in names])

        def hold(name: str, values: NDArray[np.float32]) -> Any:
            return target.hold(values, f"decoder.{name}")

        def hold_each(name: str, make: Callable[[str], NDArray[np.float32]]) -> ParameterTuple:
            prefixes = (f"{DECODER}.layers.{layer}" for layer in range(config.layers))
            return ParameterTuple([hold(f"{name}.{layer}", make(prefix)) for layer, prefix in enumerate(prefixes)])

        def make_reader(name: str, part: str) -> Callable[[str], NDArray[np.float32]]:
            return lambda prefix: read(f"{prefix}.{name}.{part}")

        def fuse(prefix: str) -> NDArray[np.float32]:
            fused = read(*(f"{prefix}.self_attn.{part}_proj.weight" for part in "qkv"))
            fused[: config.hidden] *= scale
            return fused

        self.embeddings = hold(
            "embeddings", read(*(f"{DECODER}.embed_tokens.{index}.weight" for index in range(config.codebooks)))
        )
        self.places = hold("places", make_places(config.positions, config.hidden))
        self.qkv = hold_each("qkv", fuse)
        self.out = hold_each("out", lambda prefix: read(f"{prefix}.self_attn.out_proj.weight"))
        self.cross_q = hold_each("cross_q", lambda prefix: read(f"{prefix}.encoder_attn.q_proj.weight") * scale)
        self.cross_kv = hold_each(
            "cross_kv",
            lambda prefix: read(f"{prefix}.encoder_attn.k_proj.weight", f"{prefix}.encoder_attn.v_proj.weight"),
        )
        self.cross_out = hold_each("cross_out", lambda prefix: read(f"{prefix}.encoder_attn.out_proj.weight"))
        self.fc1 = hold_each("fc1", lambda prefix: fold_gelu(read(f"{prefix}.fc1.weight")))
        self.fc2 = hold_each("fc2", lambda prefix: fold_gelu(read(f"{prefix}.fc2.weight")))
        # Three norms a layer: before the self-attention, before the cross-attention, before the feed-forward part.
        names = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
        norms = [hold_each(f"{name}.{part}", make_reader(name, part)) for name in names for part in ("weight", "bias")]
        self.scale_1, self.shift_1, self.scale_2, self.shift_2, self.scale_3, self.shift_3 = norms
        self.last_scale = hold("last_scale", read(f"{DECODER}.layer_norm.weight"))
        self.last_shift = hold("last_shift", read(f"{DECODER}.layer_norm.bias"))
        self.heads = hold("heads", read(*(f"{HEADS}.{index}.weight" for index in range(config.codebooks))))


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
