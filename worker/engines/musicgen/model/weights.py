"""The weights in a model's folder: safetensors, in one file or in shards, with any of the known names and dtypes.

Pickles are refused, since reading a pickle runs the code that it contains.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from shared.kinds.musicgen.catalogue import WEIGHTS, WEIGHTS_INDEX
from shared.texts import text
from worker.engines.musicgen.model.configuration import ModelConfig, unusable_model
from worker.engines.musicgen.model.pickles import PICKLES, pickles_refused
from worker.engines.musicgen.model.tensors import TEXT, Shape, list_tensors

_EMBEDDINGS: Final = f"{TEXT}.shared.weight"
_EMBEDDINGS_TIED: Final = f"{TEXT}.encoder.embed_tokens.weight"
_CONVOLUTION: Final = ".conv.weight"
# With weight norm, a file stores a weight as two tensors: its length and its direction. These are the names of the two
# tensors in PyTorch's two implementations of weight norm.
_WEIGHT_NORM_NAMES: Final = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)
# NumPy has no bfloat16. A bfloat16 value is the upper half of a float32 value, and is read as an unsigned integer.
_DTYPES: Final[Mapping[str, np.dtype[np.generic]]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


@dataclass(frozen=True)
class _Stored:
    """The place of a tensor in a file."""

    path: Path
    offset: int
    dtype: str
    shape: Shape

    def read(self) -> NDArray[np.float32]:
        """Read the tensor, and nothing else from the file."""
        stored_dtype = _DTYPES[self.dtype]
        count = int(np.prod(self.shape, dtype=np.int64))
        values = np.fromfile(self.path, stored_dtype, count, offset=self.offset).reshape(self.shape)
        if self.dtype == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32, copy=False)


class Weights:
    """Reads tensors one by one and keeps none of them, so that memory never holds a second copy of the model.

    Parameters
    ----------
    tensors
        For each tensor name in `tensors.list_tensors`, where files store the tensor: in one place, or (with weight
        norm) in two places, for length and direction.
    """

    def __init__(self, tensors: Mapping[str, tuple[_Stored, ...]]) -> None:
        self._tensors = tensors

    @classmethod
    def open(cls, folder: Path, config: ModelConfig) -> Self:
        """Find every tensor and check its shape; only the headers of the files are read.

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
            One of the names in `tensors.list_tensors`.

        Returns
        -------
        A contiguous array of the shape that `tensors.list_tensors` gives, with weight norm applied.

        References
        ----------
        Salimans and Kingma 2016, "Weight Normalization", equation 2.
        """
        parts = [part.read() for part in self._tensors[name]]
        if len(parts) == 1:
            return parts[0]
        length, direction = parts
        # The norm is taken over all axes except the first. The first axis is the outputs, or, in a transposed
        # convolution, the inputs.
        norm = np.sqrt(np.square(direction).sum(axis=(1, 2), keepdims=True, dtype=np.float64))
        return np.multiply(direction, length / norm, dtype=np.float32, casting="same_kind")


def list_files(folder: Path) -> list[Path]:
    """List the files that contain a model's weights.

    Raises
    ------
    JobFailedError
        A file is missing, or there are only pickles.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / WEIGHTS_INDEX).is_file():
        return _list_shards(folder / WEIGHTS_INDEX)
    pickles = {path.name for pattern in PICKLES for path in folder.glob(pattern)}
    if pickles:
        raise pickles_refused(str(folder), pickles)
    raise unusable_model(text("model-file-missing", path=str(folder / WEIGHTS)))


def _list_shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text())["weight_map"].values())
        paths = [index.with_name(name) for name in sorted(names)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise unusable_model(text("model-file-unreadable", path=str(index), error=repr(error))) from error
    for path in paths:
        if not path.is_file():
            raise unusable_model(text("model-file-missing", path=str(path)))
    return paths


def _read_header(path: Path) -> Iterator[tuple[str, _Stored]]:
    try:
        # The library checks the header, and that the file has the length that the header gives.
        with safe_open(path, framework="np"):
            pass
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
    except (OSError, ValueError, SafetensorError) as error:
        raise unusable_model(text("model-file-damaged", path=str(path), error=str(error))) from error
    header.pop("__metadata__", None)
    for name, entry in header.items():
        yield name, _Stored(path, 8 + size + entry["data_offsets"][0], entry["dtype"], tuple(entry["shape"]))


def _find(folder: Path, stored: Mapping[str, _Stored], name: str, shape: Shape) -> tuple[_Stored, ...]:
    for stored_names in _list_stored_names(name, shape):
        if stored_names.keys() <= stored.keys():
            return tuple(_check(stored[part], part, wanted) for part, wanted in stored_names.items())
    raise unusable_model(text("model-tensor-missing", folder=str(folder), tensor=name))


def _list_stored_names(name: str, shape: Shape) -> Iterator[Mapping[str, Shape]]:
    """Yield each way in which a file may store a tensor: the names and shapes of all stored parts."""
    yield {name: shape}
    if name == _EMBEDDINGS:
        yield {_EMBEDDINGS_TIED: shape}
    if name.endswith(_CONVOLUTION):
        stem = name.removesuffix("weight")
        for length, direction in _WEIGHT_NORM_NAMES:
            yield {stem + length: (shape[0], 1, 1), stem + direction: shape}


def _check(tensor: _Stored, name: str, shape: Shape) -> _Stored:
    if tensor.shape != shape:
        shapes = {"shape": str(list(tensor.shape)), "wanted": str(list(shape))}
        raise unusable_model(text("model-tensor-shape", path=str(tensor.path), tensor=name, **shapes))
    if tensor.dtype not in _DTYPES:
        raise unusable_model(text("model-tensor-dtype", path=str(tensor.path), tensor=name, dtype=tensor.dtype))
    return tensor
