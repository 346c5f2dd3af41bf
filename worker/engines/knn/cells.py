"""Tiles compiled by MindSpore: the closeness of all queries to all rows of a part.

Compiled by ``mindspore.jit`` and not by setting graph mode for the process, so
that another engine in the process keeps the mode that it needs; a call is
cheaper, too. MindSpore compiles once for each shape and frees compiled graphs
only all together, so their number is kept bounded by starting over.

The error bounds of the metrics take float32 to be float32: MindSpore multiplies
matrices so on CPUs, GPUs (TF32 is off) and Ascend (HF32 is off) unless configured
otherwise; the oldest Ascend training chips need ``precision_mode`` set to
``must_keep_origin_dtype``.
"""

from collections.abc import Callable
from typing import Any, Final

import mindspore
from mindspore import Tensor, ops
from mindspore.ops.operations.math_ops import Cdist

from worker.engines.knn.space import Operand
from worker.engines.knn.tiles import BLOCK_ROWS

MAX_GRAPHS: Final = 256
"""A compiled graph holds about a third of a megabyte and takes 20 ms to make."""


class Cells:
    """The compiled tiles of a process."""

    def __init__(self) -> None:
        self._functions: dict[float | None, Callable[[Any, Any], tuple[Any, Any]]] = {}
        self._graphs: set[tuple[float | None, tuple[int, ...], tuple[int, ...]]] = set()

    def compare(self, order: float | None, queries: Operand, rows: Operand) -> tuple[Operand, Operand]:
        """Compute one tile.

        Parameters
        ----------
        order
            What closeness is, see `Space`.
        queries, rows
            Shapes (F, Q, w) and (F, T, w), float32, C-contiguous: F spaces, each
            of Q queries and T rows, T a multiple of the block.

        Returns
        -------
        tuple
            The closeness, shape (F, Q, T), and its maximum in each block of
            consecutive rows, shape (F, Q, T / block); float32.
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
        """Free every compiled graph of the process; graphs are compiled again when they are needed."""
        self._functions.clear()
        self._graphs.clear()
        mindspore.ms_memory_recycle()


def _make_product() -> Callable[[Any, Any], tuple[Any, Any]]:
    """Make closeness an inner product."""
    multiply = ops.BatchMatMul(transpose_b=True)
    find_peaks = _make_peaks()

    def compare(queries: Any, rows: Any) -> tuple[Any, Any]:  # noqa: ANN401 - a Tensor, untyped
        closeness = multiply(queries, rows)
        return closeness, find_peaks(closeness.expand_dims(1))

    return _compile(compare)


def _make_difference(order: float) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Make closeness minus the order-norm of the difference."""
    measure = Cdist(order)
    find_peaks = _make_peaks()

    def compare(queries: Any, rows: Any) -> tuple[Any, Any]:  # noqa: ANN401 - a Tensor, untyped
        closeness = -measure(queries, rows)
        return closeness, find_peaks(closeness.expand_dims(1))

    return _compile(compare)


def _make_peaks() -> Any:  # noqa: ANN401 - an operator, untyped
    """Find block maxima by pooling, which takes a fifth of the time of a reduction on the CPU."""
    return ops.MaxPool(kernel_size=(1, BLOCK_ROWS), strides=(1, BLOCK_ROWS))


def _compile(compare: Callable[[Any, Any], tuple[Any, Any]]) -> Callable[[Any, Any], tuple[Any, Any]]:
    compiled: Callable[[Any, Any], tuple[Any, Any]] = mindspore.jit(compare)
    return compiled
