"""A model's dimensions, read from the configuration file of its folder in the Hugging Face layout."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from shared.errors import JobFailedError
from shared.kinds.musicgen.catalogue import CONFIGURATION
from shared.kinds.musicgen.model_figures import ConfigPart, ModelFigures, read_configuration
from shared.texts import Text, text


@dataclass(frozen=True)
class TextConfig:
    """The dimensions of the T5 encoder."""

    vocabulary: int
    hidden: int
    head: int
    heads: int
    feed_forward: int
    layers: int
    distance_buckets: int
    max_distance: int
    epsilon: float

    @classmethod
    def read(cls, part: ConfigPart) -> Self:
        """Read the object ``text_encoder``; only T5 with ReLU is supported, because all published models have it."""
        part.require("feed_forward_proj", "relu", default="relu")
        return cls(
            vocabulary=part.count("vocab_size"),
            hidden=part.count("d_model"),
            head=part.count("d_kv"),
            heads=part.count("num_heads"),
            feed_forward=part.count("d_ff"),
            layers=part.count("num_layers"),
            distance_buckets=part.count("relative_attention_num_buckets", default=32),
            max_distance=part.count("relative_attention_max_distance", default=128),
            epsilon=part.number("layer_norm_epsilon", default=1e-6),
        )


@dataclass(frozen=True)
class DecoderConfig:
    """The dimensions of the decoder.

    ``vocabulary`` is the number of codes of a codebook. The codes are the tokens 0 to
    ``vocabulary - 1``. One more token, with the number ``vocabulary``, starts and pads every
    sequence, and is never sampled.
    """

    vocabulary: int
    positions: int
    hidden: int
    heads: int
    feed_forward: int
    layers: int
    codebooks: int
    channels: int

    @classmethod
    def read(cls, part: ConfigPart, figures: ModelFigures) -> Self:
        """Read the object ``decoder``."""
        part.require("activation_function", "gelu", default="gelu")
        vocabulary = part.count("vocab_size", default=2048)
        for name in ("pad_token_id", "bos_token_id"):
            part.require(name, vocabulary, default=2048)
        config = cls(
            vocabulary=vocabulary,
            positions=figures.positions,
            hidden=part.count("hidden_size"),
            heads=part.count("num_attention_heads"),
            feed_forward=part.count("ffn_dim"),
            layers=part.count("num_hidden_layers"),
            codebooks=figures.codebooks,
            channels=figures.channels,
        )
        if config.hidden % config.heads or config.hidden % 2:
            raise part.invalid("hidden_size", "indivisible", value=config.hidden, heads=config.heads)
        if config.channels not in {1, 2} or config.codebooks % config.channels:
            raise part.invalid("audio_channels", "channels", value=config.channels, codebooks=config.codebooks)
        return config

    @property
    def start(self) -> int:
        """The token that starts and pads every sequence."""
        return self.vocabulary


@dataclass(frozen=True)
class CodecConfig:
    """The dimensions of EnCodec. The codec is mono; a stereo model runs the codec once per channel."""

    sample_rate_hz: int
    hidden: int
    filters: int
    ratios: tuple[int, ...]
    kernel: int
    last_kernel: int
    residual_kernel: int
    residual_layers: int
    dilation_growth: int
    compress: int
    lstm_layers: int
    shortcut: bool
    codebook_size: int
    codebooks: int

    @classmethod
    def read(cls, part: ConfigPart, figures: ModelFigures) -> Self:
        """Read the object ``audio_encoder``.

        Variants that no published MusicGen model has (causal, chunked, normalised) are refused.
        """
        part.require("norm_type", "weight_norm", default="weight_norm")
        part.require("pad_mode", "reflect", default="reflect")
        part.require("use_causal_conv", False, default=True)  # noqa: FBT003 - the value that is demanded
        part.require("normalize", False, default=False)  # noqa: FBT003 - the value that is demanded
        part.require("chunk_length_s", None, default=None)
        part.require("audio_channels", 1, default=1)
        codebook_size = part.count("codebook_size", default=1024)
        if codebook_size == 1:
            raise part.invalid("codebook_size", "codebook-size", value=codebook_size)
        hidden = part.count("hidden_size", default=128)
        part.require("codebook_dim", hidden, default=hidden)
        bits = math.ceil(math.log2(codebook_size))
        return cls(
            sample_rate_hz=figures.sample_rate_hz,
            hidden=hidden,
            filters=part.count("num_filters", default=32),
            ratios=figures.ratios,
            kernel=part.count("kernel_size", default=7),
            last_kernel=part.count("last_kernel_size", default=7),
            residual_kernel=part.count("residual_kernel_size", default=3),
            residual_layers=part.count("num_residual_layers", default=1),
            dilation_growth=part.count("dilation_growth_rate", default=2),
            compress=part.count("compress", default=2),
            lstm_layers=part.count("num_lstm_layers", default=2),
            shortcut=part.flag("use_conv_shortcut", default=True),
            codebook_size=codebook_size,
            codebooks=int(1000 * part.numbers("target_bandwidths")[-1] // (figures.frame_rate * bits)),
        )

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.ratios)

    @property
    def frame_rate(self) -> int:
        """Frames per second, rounded up to an integer."""
        return math.ceil(self.sample_rate_hz / self.hop)


@dataclass(frozen=True)
class ModelConfig:
    """The dimensions of a model."""

    text: TextConfig
    decoder: DecoderConfig
    codec: CodecConfig

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``config.json`` of a model's folder.

        Raises
        ------
        JobFailedError
            The file is missing, is unreadable, or does not describe a MusicGen model. If a value is wrong, the error
            contains its key.
        """
        path = folder / CONFIGURATION
        content = read_configuration(path)
        ConfigPart(path, "", content).require("model_type", "musicgen", default=None)
        text_encoder, decoder, codec = (
            ConfigPart.open(path, content, name) for name in ("text_encoder", "decoder", "audio_encoder")
        )
        figures = ModelFigures.read(decoder, codec)
        config = cls(
            TextConfig.read(text_encoder), DecoderConfig.read(decoder, figures), CodecConfig.read(codec, figures)
        )
        codes = (config.codec.codebooks * config.decoder.channels, config.codec.codebook_size)
        if codes != (config.decoder.codebooks, config.decoder.vocabulary):
            raise unusable_model(
                text(
                    "model-codebooks-mismatch",
                    path=str(path),
                    codebooks=config.decoder.codebooks,
                    codes=config.decoder.vocabulary,
                    codec_codebooks=codes[0],
                    codec_codes=codes[1],
                )
            )
        return config

    @property
    def figures(self) -> ModelFigures:
        """The figures that decide how long the music can be."""
        return ModelFigures(
            positions=self.decoder.positions,
            codebooks=self.decoder.codebooks,
            channels=self.decoder.channels,
            sample_rate_hz=self.codec.sample_rate_hz,
            ratios=self.codec.ratios,
        )

    @property
    def projected(self) -> bool:
        """Whether the text states are projected to the hidden size of the decoder."""
        return self.text.hidden != self.decoder.hidden


def unusable_model(reason: Text) -> JobFailedError:
    """Make the error for a model whose files cannot be used."""
    return JobFailedError("model-invalid", reason)
