"""The decoder's weights, fused for speed, where the network computes.

References
----------
Copet et al. 2023, "Simple and controllable music generation"; ``modeling_musicgen.py`` of transformers.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from mindspore import Parameter, ParameterTuple
from numpy.typing import NDArray

from worker.engines.musicgen.backends.mindspore.layers import Target, fold_gelu
from worker.engines.musicgen.backends.mindspore.weight_memory import WeightMemory
from worker.engines.musicgen.model.configuration import DecoderConfig
from worker.engines.musicgen.model.sinusoids import make_sinusoids
from worker.engines.musicgen.model.tensors import DECODER, HEADS
from worker.engines.musicgen.model.weights import Weights

LAYER_PARTS: Final = 12
"""How many tensors a layer has, in ``DecoderWeights.layers``."""


class DecoderWeights:
    """The decoder's weights, where it computes, for the cells of every shape.

    The matrices for queries, keys and values are one, with the attention's scale
    in the queries' part; so are the heads of all codebooks, and their embeddings.

    Attributes
    ----------
    layers
        ``LAYER_PARTS`` of each layer: scale and shift before the self-attention, its matrices qkv and out; scale and
        shift before the cross-attention, its matrices q and out; scale and shift before the feed-forward part, and
        its two matrices.
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
        self._pages = WeightMemory()
        prefixes = [f"{DECODER}.layers.{layer}" for layer in range(config.layers)]
        codebooks = range(config.codebooks)

        def join(*names: str) -> NDArray[np.float32]:
            return np.concatenate([weights.read(name) for name in names])

        self.layers = self._hold("layers", (part for prefix in prefixes for part in self._read_layer(weights, prefix)))
        self.cross_kv = self._hold(
            "cross_kv", (join(*(f"{prefix}.encoder_attn.{part}_proj.weight" for part in "kv")) for prefix in prefixes)
        )
        embeddings = join(*(f"{DECODER}.embed_tokens.{index}.weight" for index in codebooks))
        self.embeddings = self._hold("embeddings", (embeddings, make_sinusoids(config.positions, config.hidden)))
        norm = f"{DECODER}.layer_norm"
        heads = join(*(f"{HEADS}.{index}.weight" for index in codebooks))
        self.head = self._hold("head", (weights.read(f"{norm}.weight"), weights.read(f"{norm}.bias"), heads))

    def release(self) -> None:
        """Give the memory back; the cells must not be used any more. On the CPU alone: devices keep it."""
        self._pages.release()

    def _hold(self, name: str, values: Iterable[NDArray[np.float32]]) -> ParameterTuple:
        parameters = []
        for index, array in enumerate(values):
            tensor = self.target.hold(self._pages.place(array))
            parameter = Parameter(tensor, name=f"{name}.{index}", requires_grad=False)
            parameter.set_data(tensor)  # the pages themselves: what a parameter is made from it copies
            parameters.append(parameter)
        return ParameterTuple(parameters)

    def _read_layer(self, weights: Weights, prefix: str) -> Iterator[NDArray[np.float32]]:
        """Read a layer's tensors one by one, so that no more than one is in memory twice."""
        hidden = self.config.hidden
        scale = np.float32((hidden // self.config.heads) ** -0.5)

        def read(name: str) -> NDArray[np.float32]:
            return weights.read(f"{prefix}.{name}")

        yield read("self_attn_layer_norm.weight")
        yield read("self_attn_layer_norm.bias")
        qkv = np.concatenate([read(f"self_attn.{part}_proj.weight") for part in "qkv"])
        qkv[:hidden] *= scale
        yield qkv
        yield read("self_attn.out_proj.weight")
        yield read("encoder_attn_layer_norm.weight")
        yield read("encoder_attn_layer_norm.bias")
        yield read("encoder_attn.q_proj.weight") * scale
        yield read("encoder_attn.out_proj.weight")
        yield read("final_layer_norm.weight")
        yield read("final_layer_norm.bias")
        yield fold_gelu(read("fc1.weight"))
        yield fold_gelu(read("fc2.weight"))
