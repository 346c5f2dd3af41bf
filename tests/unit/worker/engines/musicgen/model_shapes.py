"""Configurations of decoder and codec without the files of a model."""

from typing import Final

from tests.references.musicgen_cases import TINY
from worker.engines.musicgen.model.configuration import CodecConfig, DecoderConfig
from worker.engines.musicgen.model.random_model import Size

CODEC: Final = CodecConfig(
    sample_rate_hz=3_200,
    hidden=16,
    filters=4,
    ratios=(4, 2),
    kernel=7,
    last_kernel=7,
    residual_kernel=3,
    residual_layers=1,
    dilation_growth=2,
    compress=2,
    lstm_layers=2,
    shortcut=False,
    codebook_size=64,
    codebooks=4,
)
"""The configuration that ``ModelConfig.read`` returns for the codec of ``TINY``."""


def shape_decoder(size: Size = TINY) -> DecoderConfig:
    """Return the configuration that ``ModelConfig.read`` returns for the decoder of a random model of that size."""
    return DecoderConfig(
        vocabulary=size.codebook_size,
        positions=size.positions,
        hidden=size.hidden,
        heads=size.heads,
        feed_forward=size.feed_forward,
        layers=size.layers,
        codebooks=size.codebooks * size.channels,
        channels=size.channels,
    )
