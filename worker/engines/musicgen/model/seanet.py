"""The layers of EnCodec's encoder and decoder, in the order of computation, with the names of their tensors.

References
----------
Défossez et al. 2022, "High Fidelity Neural Audio Compression", section 3.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from worker.engines.musicgen.model.configuration import CodecConfig

ENCODER = "audio_encoder.encoder.layers"
DECODER = "audio_encoder.decoder.layers"


@dataclass(frozen=True)
class Convolution:
    """A convolution along time; if ``activated`` is true, an ELU comes before the convolution.

    The input is padded along time by reflection, with ``dilation * (kernel - 1) + 1 - stride`` positions in total. If
    this number is odd, the left side gets one position more than the right side.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    activated: bool = True

    def list_tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and the shape of each tensor."""
        yield f"{self.name}.conv.weight", (self.outputs, self.inputs, self.kernel)
        yield f"{self.name}.conv.bias", (self.outputs,)


@dataclass(frozen=True)
class Transposed:
    """An ELU, then a transposed convolution with kernel ``2 * stride``.

    The output is trimmed, so that it is ``stride`` times as long as the input.
    """

    name: str
    inputs: int
    outputs: int
    stride: int

    def list_tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and the shape of each tensor."""
        yield f"{self.name}.conv.weight", (self.inputs, self.outputs, 2 * self.stride)
        yield f"{self.name}.conv.bias", (self.outputs,)


@dataclass(frozen=True)
class Residual:
    """Two convolutions, and a shortcut around both: a third convolution, or the identity (``None``)."""

    wide: Convolution
    narrow: Convolution
    shortcut: Convolution | None

    def list_tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and the shape of each tensor."""
        for part in (self.wide, self.narrow, self.shortcut):
            if part is not None:
                yield from part.list_tensors()


@dataclass(frozen=True)
class Lstm:
    """Stacked LSTM layers along time, with the input added to the output."""

    name: str
    size: int
    layers: int

    def list_tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and the shape of each tensor.

        The gates are in PyTorch's order: input, forget, cell, output.
        """
        for layer in range(self.layers):
            for kind in ("weight_ih", "weight_hh"):
                yield f"{self.name}.lstm.{kind}_l{layer}", (4 * self.size, self.size)
            for kind in ("bias_ih", "bias_hh"):
                yield f"{self.name}.lstm.{kind}_l{layer}", (4 * self.size,)


Layer = Convolution | Transposed | Residual | Lstm


def list_encoder_layers(config: CodecConfig) -> list[Layer]:
    """List the layers of the encoder.

    The encoder turns audio of shape (1, samples) into states of shape (``config.hidden``, frames).
    """
    # The layers are numbered as in the safetensors file, in which each ELU is a layer of its own.
    layers: list[Layer] = [Convolution(f"{ENCODER}.0", 1, config.filters, config.kernel, activated=False)]
    number, size = 1, config.filters
    for ratio in reversed(config.ratios):
        for index in range(config.residual_layers):
            layers.append(_make_residual(config, f"{ENCODER}.{number}", size, index))
            number += 1
        layers.append(Convolution(f"{ENCODER}.{number + 1}", size, 2 * size, 2 * ratio, stride=ratio))
        number, size = number + 2, 2 * size
    layers.append(Lstm(f"{ENCODER}.{number}", size, config.lstm_layers))
    layers.append(Convolution(f"{ENCODER}.{number + 2}", size, config.hidden, config.last_kernel))
    return layers


def list_decoder_layers(config: CodecConfig) -> list[Layer]:
    """List the layers of the decoder.

    The decoder turns states of shape (``config.hidden``, frames) into audio of shape (1, samples).
    """
    size = config.filters * 2 ** len(config.ratios)
    layers: list[Layer] = [Convolution(f"{DECODER}.0", config.hidden, size, config.kernel, activated=False)]
    layers.append(Lstm(f"{DECODER}.1", size, config.lstm_layers))
    number = 2
    for ratio in config.ratios:
        layers.append(Transposed(f"{DECODER}.{number + 1}", size, size // 2, ratio))
        number, size = number + 2, size // 2
        for index in range(config.residual_layers):
            layers.append(_make_residual(config, f"{DECODER}.{number}", size, index))
            number += 1
    layers.append(Convolution(f"{DECODER}.{number + 1}", config.filters, 1, config.last_kernel))
    return layers


def _make_residual(config: CodecConfig, name: str, size: int, index: int) -> Residual:
    inner = size // config.compress
    dilation = config.dilation_growth**index
    return Residual(
        Convolution(f"{name}.block.1", size, inner, config.residual_kernel, dilation=dilation),
        Convolution(f"{name}.block.3", inner, size, 1),
        Convolution(f"{name}.shortcut", size, size, 1, activated=False) if config.shortcut else None,
    )
