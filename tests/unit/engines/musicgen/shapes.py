"""The decoder's shape without a model's files."""

from tests.references.musicgen_cases import TINY
from worker.engines.musicgen.configuration import DecoderConfig
from worker.engines.musicgen.random_model import Size


def shape_decoder(size: Size = TINY) -> DecoderConfig:
    """Return what ``ModelConfig.read`` reads of a random model of that size."""
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
