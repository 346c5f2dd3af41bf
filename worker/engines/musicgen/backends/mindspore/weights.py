"""The decoder's weights on the device, fused for speed.

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

TENSORS_PER_LAYER: Final = 12
"""How many tensors of a layer are in ``DecoderWeights.layers``."""


class DecoderWeights:
    """The decoder's weights on the device, shared by the cells of all shapes.

    The matrices for queries, keys and values are concatenated, with the attention's
    scale multiplied into the queries' part. The heads of all codebooks are
    concatenated, too, and so are the embeddings of all codebooks.

    Attributes
    ----------
    layers
        ``TENSORS_PER_LAYER`` tensors of each layer: scale and shift of the norm before the self-attention, matrices
        qkv and out of the self-attention; scale and shift of the norm before the cross-attention, matrices q and out
        of the cross-attention; scale and shift of the norm before the feed-forward part, and the two matrices of the
        feed-forward part.
    cross_kv
        For each layer, the matrix that projects text states to keys and values, shape (2 * hidden, hidden).
    embeddings
        The embeddings of the tokens, shape (codebooks * (vocabulary + 1), hidden), and the embeddings of the positions,
        shape (positions, hidden).
    head
        Scale and shift of the last norm, and the matrix of the heads, shape (codebooks * vocabulary, hidden).
    """

    def __init__(self, config: DecoderConfig, weights: Weights, target: Target) -> None:
        self.config = config
        self.target = target
        self._memory = WeightMemory()
        prefixes = [f"{DECODER}.layers.{layer}" for layer in range(config.layers)]
        codebooks = range(config.codebooks)

        def join(*names: str) -> NDArray[np.float32]:
            return np.concatenate([weights.read(name) for name in names])

        self.layers = self._make_parameters(
            "layers", (part for prefix in prefixes for part in self._read_layer(weights, prefix))
        )
        self.cross_kv = self._make_parameters(
            "cross_kv", (join(*(f"{prefix}.encoder_attn.{part}_proj.weight" for part in "kv")) for prefix in prefixes)
        )
        embeddings = join(*(f"{DECODER}.embed_tokens.{index}.weight" for index in codebooks))
        sinusoids = make_sinusoids(config.positions, config.hidden)
        self.embeddings = self._make_parameters("embeddings", (embeddings, sinusoids))
        norm = f"{DECODER}.layer_norm"
        heads = join(*(f"{HEADS}.{index}.weight" for index in codebooks))
        self.head = self._make_parameters("head", (weights.read(f"{norm}.weight"), weights.read(f"{norm}.bias"), heads))

    def release(self) -> None:
        """Free the weights on the CPU; other devices keep their copies. The cells must not be used after this."""
        self._memory.release()

    def _make_parameters(self, name: str, values: Iterable[NDArray[np.float32]]) -> ParameterTuple:
        parameters = []
        for index, array in enumerate(values):
            tensor = self.target.to_device(self._memory.copy(array))
            parameter = Parameter(tensor, name=f"{name}.{index}", requires_grad=False)
            parameter.set_data(tensor)  # the constructor copies the tensor; this replaces the copy
            parameters.append(parameter)
        return ParameterTuple(parameters)

    def _read_layer(self, weights: Weights, prefix: str) -> Iterator[NDArray[np.float32]]:
        """Read a layer's tensors one by one, so that only one tensor at a time is in memory twice."""
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
