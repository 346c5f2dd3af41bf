"""The weights of a model's folder: safetensors, in one file or in shards, however they are spelt and rounded.

A pickle is refused, since reading one runs whatever code it holds.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from shared.errors import JobFailedError
from shared.kinds.musicgen.catalogue import WEIGHTS, WEIGHTS_INDEX
from worker.engines.musicgen.model.configuration import ModelConfig, unusable_model
from worker.engines.musicgen.model.tensors import TEXT, Shape, list_tensors

PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt")

_TABLE: Final = f"{TEXT}.shared.weight"
_TABLE_TIED: Final = f"{TEXT}.encoder.embed_tokens.weight"
_CONVOLUTION: Final = ".conv.weight"
# Length and direction, as PyTorch's two implementations of weight norm call them.
_SPELLINGS: Final = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)
# NumPy has no bfloat16: these are the upper halves of float32.
_STORED_AS: Final[Mapping[str, np.dtype[np.generic]]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


def pickles_refused(where: str, names: Iterable[str]) -> JobFailedError:
    """Make the error of a model that has its weights as pickles only."""
    return unusable_model(
        f"{where} has its weights as {' and '.join(sorted(names))} and not as safetensors; pickled weights can run "
        "any code when they are read, so they are not. Convert them where you trust them: load the model with "
        "transformers, and save it with save_pretrained(folder, safe_serialization=True)."
    )


@dataclass(frozen=True)
class _Stored:
    """Where a tensor lies."""

    path: Path
    offset: int
    kind: str
    shape: Shape

    def read(self) -> NDArray[np.float32]:
        """Read it; nothing else of the file comes into memory."""
        dtype = _STORED_AS[self.kind]
        count = int(np.prod(self.shape, dtype=np.int64))
        values = np.fromfile(self.path, dtype, count, offset=self.offset).reshape(self.shape)
        if self.kind == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32, copy=False)


class Weights:
    """Reads tensors one by one and keeps none, so that no more than one model is ever in memory.

    Parameters
    ----------
    tensors
        Name, as in ``tensors.list_tensors``, to where its values lie: the values themselves, or their lengths
        and directions.
    """

    def __init__(self, tensors: Mapping[str, tuple[_Stored, ...]]) -> None:
        self._tensors = tensors

    @classmethod
    def open(cls, folder: Path, config: ModelConfig) -> Self:
        """Find every tensor and check its shape, by the files' headers alone.

        Tensors that the model does not need are ignored.

        Raises
        ------
        JobFailedError
            A file is missing or damaged, a tensor is missing or has another shape, or there are only pickles.
        """
        stored = {name: tensor for path in list_files(folder) for name, tensor in _read_header(path)}
        return cls({name: _find(folder, stored, name, shape) for name, shape in list_tensors(config).items()})

    def read(self, name: str) -> NDArray[np.float32]:
        """Read a tensor.

        Parameters
        ----------
        name
            One of ``tensors.list_tensors``.

        Returns
        -------
        Of the shape given there, contiguous, weight norm folded.

        References
        ----------
        Salimans and Kingma 2016, "Weight Normalization", equation 2.
        """
        parts = [part.read() for part in self._tensors[name]]
        if len(parts) == 1:
            return parts[0]
        length, direction = parts
        # Over all axes but the first, which for a transposed convolution is that of its inputs.
        norm = np.sqrt(np.square(direction).sum(axis=(1, 2), keepdims=True, dtype=np.float64))
        return np.multiply(direction, length / norm, dtype=np.float32, casting="same_kind")


def list_files(folder: Path) -> list[Path]:
    """List the files that a model's weights are divided among.

    Raises
    ------
    JobFailedError
        One is missing, or there are only pickles.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / WEIGHTS_INDEX).is_file():
        return _list_shards(folder / WEIGHTS_INDEX)
    pickles = {path.name for pattern in PICKLES for path in folder.glob(pattern)}
    if pickles:
        raise pickles_refused(str(folder), pickles)
    raise unusable_model(f"{folder} has no {WEIGHTS}; download the model again.")


def _list_shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text())["weight_map"].values())
        paths = [index.with_name(name) for name in sorted(names)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise unusable_model(f"{index} cannot be read ({error!r}); download the model again.") from error
    for path in paths:
        if not path.is_file():
            raise unusable_model(f"{path}, a part of the model's weights, is missing; download the model again.")
    return paths


def _read_header(path: Path) -> Iterator[tuple[str, _Stored]]:
    try:
        # The library checks that the header is sound and that the file is as long as it says.
        with safe_open(path, framework="np"):
            pass
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
    except (OSError, ValueError, SafetensorError) as error:
        raise unusable_model(f"{path} is damaged ({error}); remove it and download the model again.") from error
    header.pop("__metadata__", None)
    for name, entry in header.items():
        yield name, _Stored(path, 8 + size + entry["data_offsets"][0], entry["dtype"], tuple(entry["shape"]))


def _find(folder: Path, stored: Mapping[str, _Stored], name: str, shape: Shape) -> tuple[_Stored, ...]:
    for spelling in _list_spellings(name, shape):
        if spelling.keys() <= stored.keys():
            return tuple(_check(stored[part], part, wanted) for part, wanted in spelling.items())
    raise unusable_model(f"The weights in {folder} have no tensor {name!r}; download the model again.")


def _list_spellings(name: str, shape: Shape) -> Iterator[Mapping[str, Shape]]:
    """Yield the names and shapes under which a file may have a tensor, each complete."""
    yield {name: shape}
    if name == _TABLE:
        yield {_TABLE_TIED: shape}
    if name.endswith(_CONVOLUTION):
        stem = name.removesuffix("weight")
        for length, direction in _SPELLINGS:
            yield {stem + length: (shape[0], 1, 1), stem + direction: shape}


def _check(tensor: _Stored, name: str, shape: Shape) -> _Stored:
    if tensor.shape != shape:
        raise unusable_model(
            f"{tensor.path}: the tensor {name!r} has the shape {list(tensor.shape)}, "
            f"and the model's configuration asks for {list(shape)}; download the model again."
        )
    if tensor.kind not in _STORED_AS:
        raise unusable_model(
            f"{tensor.path}: the tensor {name!r} is stored as {tensor.kind}, which is not supported; "
            "convert the model to float32, float16 or bfloat16."
        )
    return tensor
