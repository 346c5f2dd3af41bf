"""A model with random weights, written to a folder in the Hugging Face layout.

The output of such a model is noise, but it is computed in the same way as real music. The
built-in model, the references that tests compare with, and the benchmarks have random weights.
"""

import json
import math
import string
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer
from tokenizers.models import Unigram
from tokenizers.normalizers import Replace
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing

from shared.kinds.musicgen.catalogue import CONFIGURATION, GENERATION, TOKENIZER
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.seanet import list_decoder_layers
from worker.engines.musicgen.model.tensors import Shape, list_tensors

Weights = dict[str, NDArray[np.float32]]

# The tokens for padding, end and unknown text have the same numbers as in T5.
VOCABULARY: Final = ["<pad>", "</s>", "<unk>", "▁", *string.printable.strip(), *"äöüßéèçñåøæ–—’“”…"]  # noqa: RUF001 - people write these characters


class Spelling(StrEnum):
    """The names under which a file stores the weight of a convolution with weight norm."""

    CLASSIC = "classic"  # weight_g, weight_v
    PARAMETRISED = "parametrised"  # parametrizations.weight.original0, original1


@dataclass(frozen=True)
class Size:
    """The dimensions of a model; the published models differ from ``SMALL`` only in the decoder."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    text_hidden: int
    text_layers: int
    text_heads: int
    text_feed_forward: int
    text_vocabulary: int
    filters: int
    codec_hidden: int
    codebook_size: int = 2048
    codebooks: int = 4
    ratios: tuple[int, ...] = (8, 5, 4, 4)
    sample_rate_hz: int = 32_000
    positions: int = 2048
    channels: int = 1
    shortcut: bool = False
    loudness: float = 1.0
    """The factor by which the last convolution of the codec is scaled. Unscaled random weights make loud audio."""


SMALL: Final = Size(
    hidden=1024,
    layers=24,
    heads=16,
    feed_forward=4096,
    text_hidden=768,
    text_layers=12,
    text_heads=12,
    text_feed_forward=3072,
    text_vocabulary=32_128,
    filters=64,
    codec_hidden=128,
)


def write_random_model(
    folder: Path,
    size: Size,
    seed: int,
    spelling: Spelling = Spelling.PARAMETRISED,
    shard_bytes: int | None = None,
) -> None:
    """Write the folder of a model; calls with the same arguments write the same bytes.

    Parameters
    ----------
    folder
        The folder, which is created if it does not exist.
    seed
        The seed of the random weights.
    shard_bytes
        If given, the weights are split into files of about this size, with an index; otherwise there is one file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / CONFIGURATION, describe(size))
    _write_json(
        folder / GENERATION,
        {
            "bos_token_id": size.codebook_size,
            "decoder_start_token_id": size.codebook_size,
            "pad_token_id": size.codebook_size,
            "do_sample": True,
            "guidance_scale": 3.0,
            "max_length": min(1_500, size.positions),
        },
    )
    _write_json(
        folder / "preprocessor_config.json",
        {
            "feature_extractor_type": "EncodecFeatureExtractor",
            "processor_class": "MusicgenProcessor",
            "feature_size": size.channels,
            "padding_side": "left",
            "padding_value": 0.0,
            "return_attention_mask": True,
            "sampling_rate": size.sample_rate_hz,
            "chunk_length_s": None,
            "overlap": None,
        },
    )
    _write_tokenizer(folder)
    config = ModelConfig.read(folder)
    weights = {name: draw(name, shape, config, seed) for name, shape in list_tensors(config).items()}
    for tensor, _ in list_decoder_layers(config.codec)[-1].list_tensors():
        weights[tensor] *= np.float32(size.loudness)
    spelt = dict(pair for name, array in weights.items() for pair in _spell(name, array, spelling))
    _write_weights(folder, spelt, shard_bytes)


def describe(size: Size) -> dict[str, Any]:
    """Return the content of ``config.json`` for a model of this size."""
    frame_rate = math.ceil(size.sample_rate_hz / math.prod(size.ratios))
    bits = math.ceil(math.log2(size.codebook_size))
    start = size.codebook_size
    return {
        "architectures": ["MusicgenForConditionalGeneration"],
        "model_type": "musicgen",
        "is_encoder_decoder": True,
        "text_encoder": {
            "model_type": "t5",
            "d_model": size.text_hidden,
            "d_kv": size.text_hidden // size.text_heads,
            "d_ff": size.text_feed_forward,
            "num_layers": size.text_layers,
            "num_decoder_layers": size.text_layers,
            "num_heads": size.text_heads,
            "vocab_size": size.text_vocabulary,
            "relative_attention_num_buckets": 32,
            "relative_attention_max_distance": 128,
            "layer_norm_epsilon": 1e-6,
            "feed_forward_proj": "relu",
            "pad_token_id": 0,
            "eos_token_id": 1,
        },
        "decoder": {
            "model_type": "musicgen_decoder",
            "vocab_size": size.codebook_size,
            "max_position_embeddings": size.positions,
            "hidden_size": size.hidden,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "ffn_dim": size.feed_forward,
            "activation_function": "gelu",
            "num_codebooks": size.codebooks * size.channels,
            "audio_channels": size.channels,
            "pad_token_id": start,
            "bos_token_id": start,
        },
        "audio_encoder": {
            "model_type": "encodec",
            "sampling_rate": size.sample_rate_hz,
            "audio_channels": 1,
            "normalize": False,
            "hidden_size": size.codec_hidden,
            "num_filters": size.filters,
            "num_residual_layers": 1,
            "upsampling_ratios": list(size.ratios),
            "norm_type": "weight_norm",
            "kernel_size": 7,
            "last_kernel_size": 7,
            "residual_kernel_size": 3,
            "dilation_growth_rate": 2,
            "compress": 2,
            "num_lstm_layers": 2,
            "use_causal_conv": False,
            "pad_mode": "reflect",
            "trim_right_ratio": 1.0,
            "codebook_size": size.codebook_size,
            "codebook_dim": size.codec_hidden,
            "use_conv_shortcut": size.shortcut,
            "target_bandwidths": [size.codebooks * frame_rate * bits / 1000],
        },
    }


def draw(name: str, shape: Shape, config: ModelConfig, seed: int) -> NDArray[np.float32]:
    """Draw one tensor, independently of all other tensors, at a scale at which activations stay moderate."""
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = random.standard_normal(shape, dtype=np.float32)
    if name.endswith("bias"):
        return values * np.float32(0.1)
    if len(shape) == 1:  # the weight of a normalisation layer
        return 1 + values * np.float32(0.1)
    if "embed" in name or "shared" in name or "attention_bias" in name:
        return values
    inputs = shape[0] * 2 if ".conv." in name and shape[0] == 2 * shape[1] else math.prod(shape[1:])
    if name.endswith("SelfAttention.q.weight"):
        inputs *= config.text.head  # T5 does not scale its attention scores
    gain = 3 if "lm_heads" in name else 1
    return values * np.float32(gain / math.sqrt(inputs))


def _spell(name: str, array: NDArray[np.float32], spelling: Spelling) -> Iterator[tuple[str, NDArray[np.float32]]]:
    if not name.endswith(".conv.weight"):
        yield name, array
        return
    # The stored direction is the weight times 1.5. So code that takes the direction for the weight gets wrong values.
    norm = np.sqrt(np.square(array).sum(axis=(1, 2), keepdims=True))
    stem = name.removesuffix("weight")
    length, direction = {
        Spelling.CLASSIC: ("weight_g", "weight_v"),
        Spelling.PARAMETRISED: ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    }[spelling]
    yield stem + length, norm
    yield stem + direction, array * np.float32(1.5)


def _write_weights(folder: Path, weights: Weights, shard_bytes: int | None) -> None:
    shards: list[Weights] = [{}]
    for name, array in weights.items():
        if shard_bytes is not None and sum(part.nbytes for part in shards[-1].values()) >= shard_bytes:
            shards.append({})
        shards[-1][name] = array
    if shard_bytes is None:
        save_file(shards[0], folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = [f"model-{index:05}-of-{len(shards):05}.safetensors" for index in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name, metadata={"format": "pt"})
    _write_json(
        folder / "model.safetensors.index.json",
        {
            "metadata": {"total_size": sum(array.nbytes for array in weights.values())},
            "weight_map": {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard},
        },
    )


def _write_tokenizer(folder: Path) -> None:
    """Write a tokenizer like that of T5, except that its tokens are single characters."""
    tokenizer = Tokenizer(Unigram([(piece, -float(rank)) for rank, piece in enumerate(VOCABULARY)], unk_id=2))
    tokenizer.normalizer = Replace(Regex(r"\s+"), " ")
    tokenizer.pre_tokenizer = Metaspace()
    tokenizer.post_processor = TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens(VOCABULARY[:3])
    tokenizer.save(str(folder / TOKENIZER))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "T5Tokenizer",
            "extra_ids": 0,
            "additional_special_tokens": [],
            "pad_token": "<pad>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
        },
    )


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
