"""The common style of all charts (colours, fonts, markers), and their rendering as SVG.

Matplotlib is used through its objects and without pyplot: pyplot keeps global
state, and keeps every figure until the process ends.
"""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

PALETTE: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Colours that colour-blind readers, too, can distinguish.

References
----------
Okabe and Ito, Color Universal Design, 2008. The yellow of that palette is too pale on white, and is replaced here.
"""
MARKERS: Final = ("o", "^", "s", "D", "v", "P", "X", "*")
COLOUR_MAP: Final = colormaps["viridis"].resampled(32)
"""A colour map of few colours, with which Matplotlib draws a colour bar as shapes, not as pixels."""
STYLE: Final[dict[Any, Any]] = {
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 12,
    "figure.titlesize": 13,
    "font.size": 10,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text is stored as text: small, searchable, quick to render
    "svg.hashsalt": "mindjobs",  # the ids in the file depend on the picture only
    "text.parse_math": False,  # the name of a column, such as "price ($)", is not a formula
}


_DRAWING_LOCK: Final = threading.Lock()


@contextmanager
def style() -> Iterator[None]:
    """Draw in the common style, one job at a time, since Matplotlib's settings apply to the whole process.

    Matplotlib computes the layout with one font. If this font lacks letters of a name,
    the width of the name is estimated, and the name is shown in fonts of the viewer's
    machine. Matplotlib's warning about such letters would not help, so it is suppressed.
    """
    with _DRAWING_LOCK, rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def make_figure(width_inches: float, height_inches: float) -> Figure:
    """Make an empty figure that can be rendered as SVG."""
    figure = Figure(figsize=(width_inches, height_inches))
    FigureCanvasSVG(figure)
    return figure


def add_axes(figure: Figure, *, left: float, bottom: float, right: float, top: float) -> Axes:
    """Place axes by their distances, in inches, from the edges of the figure, so that no layout has to be computed."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))


def render_svg(figure: Figure) -> bytes:
    """Render a figure, and release it; the same figure gives the same bytes."""
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    release(figure)
    return content.getvalue()


def release(figure: Figure) -> None:
    """Free the memory of a figure that is not drawn again.

    The parts of a figure refer to each other. Without this, the memory of many figures stays in use until Python looks
    for such parts: for the pictures of 20 samples of music, 40 MB.
    """
    for axes in figure.axes:
        for image in axes.images:
            image.set_data([[0.0]])
    figure.clear()
