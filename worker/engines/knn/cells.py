"""The functions that compute tiles, compiled by MindSpore.

A tile holds the closeness of several queries to several training rows: one number for each pair.

The functions are compiled by ``mindspore.jit``. Graph mode is not set for the whole
process, so that another engine in the process keeps the mode that it needs. Calling
such a function is also cheaper than calling a cell in graph mode. MindSpore compiles
a graph for each shape, and can free compiled graphs only all at once. To limit the
number of graphs, all of them are freed before a graph is compiled that would exceed
`MAX_GRAPHS`.

The error bounds of the metrics assume that float32 operators really compute in
float32. In the default configuration, MindSpore multiplies matrices in float32 on
CPUs, GPUs (TF32 is off) and Ascend (HF32 is off). On the oldest Ascend training
chips, ``precision_mode`` must be set to ``must_keep_origin_dtype``, which
`mindspore_device.select_device` does.
"""

from collections.abc import Callable
from typing import Any, Final

import mindspore
from mindspore import Tensor, ops
from mindspore.ops.operations.math_ops import Cdist

from worker.engines.knn.space import Operand
from worker.engines.knn.tiles import BLOCK_ROWS

MAX_GRAPHS: Final = 256
"""A compiled graph takes about a third of a megabyte of memory, and 20 ms to compile."""


class Cells:
    """The compiled functions of a process, which compute tiles."""

    def __init__(self) -> None:
        self._functions: dict[float | None, Callable[[Any, Any], tuple[Any, Any]]] = {}
        self._graphs: set[tuple[float | None, tuple[int, ...], tuple[int, ...]]] = set()

    def compare(self, order: float | None, queries: Operand, rows: Operand) -> tuple[Operand, Operand]:
        """Compute one tile.

        Parameters
        ----------
        order
            How to compute the closeness, see `space.Space.order`.
        queries, rows
            Shapes (F, Q, w) and (F, T, w), float32, C-contiguous. F is the number of spaces
            (`space.Space`: a training part and its queries). Each space has Q queries and T
            rows, and T is a multiple of `tiles.BLOCK_ROWS`.

        Returns
        -------
        tuple
            The closeness, shape (F, Q, T), and the maximum closeness in each block of
            ``BLOCK_ROWS`` consecutive rows, shape (F, Q, T / BLOCK_ROWS); both float32.
        """
        graph = (order, queries.shape, rows.shape)
        if graph not in self._graphs and len(self._graphs) >= MAX_GRAPHS:
            self.clear()
        if order not in self._functions:
            self._functions[order] = _make_product() if order is None else _make_difference(order)
        self._graphs.add(graph)
        closeness, peaks = self._functions[order](Tensor.from_numpy(queries), Tensor.from_numpy(rows))
        return closeness.asnumpy(), peaks.asnumpy()[:, 0]

    def clear(self) -> None:
        """Free every compiled graph of the process; a graph is compiled again when it is needed."""
        self._functions.clear()
        self._graphs.clear()
        mindspore.ms_memory_recycle()


def _make_product() -> Callable[[Any, Any], tuple[Any, Any]]:
    """Compile a function whose closeness is the inner product of a query and a row."""
    multiply = ops.BatchMatMul(transpose_b=True)
    find_peaks = _make_peaks()

    def compare(queries: Any, rows: Any) -> tuple[Any, Any]:  # noqa: ANN401 - a Tensor, untyped
        closeness = multiply(queries, rows)
        return closeness, find_peaks(closeness.expand_dims(1))

    return _compile(compare)


def _make_difference(order: float) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Compile a function whose closeness is minus the norm, of this order, of the difference of a query and a row."""
    measure = Cdist(order)
    find_peaks = _make_peaks()

    def compare(queries: Any, rows: Any) -> tuple[Any, Any]:  # noqa: ANN401 - a Tensor, untyped
        closeness = -measure(queries, rows)
        return closeness, find_peaks(closeness.expand_dims(1))

    return _compile(compare)


def _make_peaks() -> Any:  # noqa: ANN401 - an operator, untyped
    """Make the operator that finds block maxima by pooling; a reduction would take five times as long on the CPU."""
    return ops.MaxPool(kernel_size=(1, BLOCK_ROWS), strides=(1, BLOCK_ROWS))


def _compile(compare: Callable[[Any, Any], tuple[Any, Any]]) -> Callable[[Any, Any], tuple[Any, Any]]:
    compiled: Callable[[Any, Any], tuple[Any, Any]] = mindspore.jit(compare)
    return compiled
