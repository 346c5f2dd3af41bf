"""The common style of all charts (colours, fonts, markers), and their rendering as SVG.

Matplotlib is used through its objects alone: pyplot keeps global state, and
every figure that it made, for the life of the process.
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
"""Colours that colour-blind readers can distinguish as well.

References
----------
Okabe and Ito, Color Universal Design, 2008; its yellow, pale on white, is replaced.
"""
MARKERS: Final = ("o", "^", "s", "D", "v", "P", "X", "*")
COLOUR_MAP: Final = colormaps["viridis"].resampled(32)
"""With so few colours, Matplotlib draws a colour bar of shapes, not of pixels."""
MAX_NAME_LENGTH: Final = 36
MAX_CLASS_NAME_LENGTH: Final = 14
LETTER_INCHES: Final = 0.085
"""The approximate width of a letter: enough to reserve space for names without measuring them."""
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
    "svg.fonttype": "none",  # text stays text: small, searchable, quick to render
    "svg.hashsalt": "mindjobs",  # ids depend on the picture alone
    "text.parse_math": False,  # a column may be called "price ($)"
}


_DRAWING_LOCK: Final = threading.Lock()


@contextmanager
def style() -> Iterator[None]:
    """Draw in the common style, one job at a time, since Matplotlib's settings apply to the whole process.

    Names in scripts that the layout font lacks are measured by estimate and shown
    by the reader's own fonts; Matplotlib's warning would be of no use.
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
    """Place axes by the distances of their edges from those of the figure, in inches: no layout has to be computed."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))


def render_svg(figure: Figure) -> bytes:
    """Render a figure; the same figure gives the same bytes."""
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def shorten(name: str, max_length: int = MAX_NAME_LENGTH) -> str:
    """Make a user's name fit a chart and XML: no control characters, the middle of a long name removed."""
    printable = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    if len(printable) <= max_length:
        return printable
    tail = (max_length - 1) // 2
    return f"{printable[: max_length - 1 - tail]}…{printable[-tail:]}"
