"""The tensors that a model's weights consist of: their names in the Hugging Face layout, and their shapes."""

import math
from collections.abc import Iterator
from typing import Final

from worker.engines.musicgen.model.configuration import CodecConfig, DecoderConfig, ModelConfig, TextConfig
from worker.engines.musicgen.model.seanet import list_decoder_layers, list_encoder_layers

Shape = tuple[int, ...]
Tensors = dict[str, Shape]

TEXT: Final = "text_encoder"
DECODER: Final = "decoder.model.decoder"
HEADS: Final = "decoder.lm_heads"
CODEC: Final = "audio_encoder"
PROJECTION: Final = "enc_to_dec_proj"


def list_tensors(config: ModelConfig) -> Tensors:
    """List every tensor of a model.

    A convolution is listed with one ``weight``, even if the safetensors file has two tensors for it (weight norm).

    Returns
    -------
    The shape of each tensor, keyed by its name. The tensors are in the order in which the model computes.
    """
    tensors = dict(_list_text(config.text))
    if config.projected:
        tensors[f"{PROJECTION}.weight"] = (config.decoder.hidden, config.text.hidden)
        tensors[f"{PROJECTION}.bias"] = (config.decoder.hidden,)
    return tensors | dict(_list_decoder(config.decoder)) | dict(_list_codec(config.codec))


def count_bytes(config: ModelConfig) -> int:
    """Count the bytes that a model's weights take as float32."""
    return 4 * sum(math.prod(shape) for shape in list_tensors(config).values())


def _list_text(config: TextConfig) -> Iterator[tuple[str, Shape]]:
    inner = config.heads * config.head
    yield f"{TEXT}.shared.weight", (config.vocabulary, config.hidden)
    yield (
        f"{TEXT}.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        (config.distance_buckets, config.heads),
    )
    for block in range(config.layers):
        prefix = f"{TEXT}.encoder.block.{block}.layer"
        yield f"{prefix}.0.layer_norm.weight", (config.hidden,)
        for name in "qkv":
            yield f"{prefix}.0.SelfAttention.{name}.weight", (inner, config.hidden)
        yield f"{prefix}.0.SelfAttention.o.weight", (config.hidden, inner)
        yield f"{prefix}.1.layer_norm.weight", (config.hidden,)
        yield f"{prefix}.1.DenseReluDense.wi.weight", (config.feed_forward, config.hidden)
        yield f"{prefix}.1.DenseReluDense.wo.weight", (config.hidden, config.feed_forward)
    yield f"{TEXT}.encoder.final_layer_norm.weight", (config.hidden,)


def _list_decoder(config: DecoderConfig) -> Iterator[tuple[str, Shape]]:
    hidden = config.hidden
    for codebook in range(config.codebooks):
        yield f"{DECODER}.embed_tokens.{codebook}.weight", (config.vocabulary + 1, hidden)
    for layer in range(config.layers):
        prefix = f"{DECODER}.layers.{layer}"
        for attention in ("self_attn", "encoder_attn"):
            yield from _list_norm(f"{prefix}.{attention}_layer_norm", hidden)
            for name in ("q", "k", "v", "out"):
                yield f"{prefix}.{attention}.{name}_proj.weight", (hidden, hidden)
        yield from _list_norm(f"{prefix}.final_layer_norm", hidden)
        yield f"{prefix}.fc1.weight", (config.feed_forward, hidden)
        yield f"{prefix}.fc2.weight", (hidden, config.feed_forward)
    yield from _list_norm(f"{DECODER}.layer_norm", hidden)
    for codebook in range(config.codebooks):
        yield f"{HEADS}.{codebook}.weight", (config.vocabulary, hidden)


def _list_norm(prefix: str, hidden: int) -> Iterator[tuple[str, Shape]]:
    yield f"{prefix}.weight", (hidden,)
    yield f"{prefix}.bias", (hidden,)


def _list_codec(config: CodecConfig) -> Iterator[tuple[str, Shape]]:
    for layer in list_encoder_layers(config):
        yield from layer.list_tensors()
    for codebook in range(config.codebooks):
        yield f"{CODEC}.quantizer.layers.{codebook}.codebook.embed", (config.codebook_size, config.hidden)
    for layer in list_decoder_layers(config):
        yield from layer.list_tensors()
