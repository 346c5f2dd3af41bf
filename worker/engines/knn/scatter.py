"""The scatter plots: pairs of attributes against each other, coloured by label."""

import hashlib
import json
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from shared.kinds.knn.parameters import Task
from worker.engines.chart_style import (
    COLOUR_MAP,
    MARKERS,
    PALETTE,
    add_axes,
    make_figure,
    render_svg,
    style,
)
from worker.engines.knn.chart_labels import LETTER_INCHES, MAX_CLASS_NAME_LENGTH, shorten
from worker.engines.knn.dataset import Dataset
from worker.engines.knn.space import Floats, Indices, Labels

MAX_PANELS: Final = 4
MAX_POINTS: Final = 2_000
PANEL_WIDTH, PANEL_HEIGHT = 4.4, 3.7  # inches
LEFT, RIGHT, BOTTOM, TOP = 0.75, 0.2, 0.6, 0.15  # margins inside a panel, inches
TITLE, LEGEND_ROW, LEGEND_KEY, COLOUR_BAR = 0.5, 0.25, 0.6, 1.0  # inches
MAX_LEGEND_ENTRIES: Final = len(PALETTE)
MAX_TICKS: Final = 5
"""The highest number of intervals between the ticks of an axis; low, since drawing a tick takes a millisecond."""
MAX_NAMED_VALUES: Final = 8
"""The highest number of values of a text whose names stand at an axis; of more values, the numbers do."""
MAX_CACHED_PICTURES: Final = 16


class ScatterCache:
    """Keeps the most recently used pictures: many jobs have the same data set and task, and thus the same picture."""

    def __init__(self) -> None:
        self._pictures: dict[bytes, bytes] = {}

    def draw(self, dataset: Dataset, task: Task) -> bytes:
        """Return the scatter plots as SVG: a picture that was kept, or a new one."""
        key = _digest(dataset, task)
        picture = self._pictures.pop(key, None) or draw_scatter(dataset, task)
        self._pictures[key] = picture  # the most recently used picture is last
        if len(self._pictures) > MAX_CACHED_PICTURES:
            del self._pictures[next(iter(self._pictures))]
        return picture


def draw_scatter(dataset: Dataset, task: Task) -> bytes:
    """Draw attributes 1-2, 3-4, 5-6 and 7-8 against each other, as SVG; numbers come before booleans and texts.

    If the last attribute has no partner, it is paired with the attribute before it. If
    there is only one attribute, it is paired with the label. Up to eight classes have
    a colour and a marker each. For more classes, and if labels are values, a colour
    map is used.
    """
    pairs = _pair_attributes(sorted(range(len(dataset.columns)), key=dataset.coded.__contains__))
    shown = _sample(len(dataset.labels))
    discrete = task is Task.CLASSIFICATION and len(dataset.classes) <= MAX_LEGEND_ENTRIES
    columns = min(2, len(pairs))
    rows = -(-len(pairs) // columns)
    width = columns * PANEL_WIDTH + (0 if discrete else COLOUR_BAR)
    names = [shorten(name, MAX_CLASS_NAME_LENGTH) for name in dataset.classes] if discrete else []
    across = max(1, min(len(names), int(width / (LEGEND_KEY + max(map(len, names), default=0) * LETTER_INCHES))))
    heading = TITLE + LEGEND_ROW * -(-len(names) // across)
    with style():
        figure = make_figure(width, rows * PANEL_HEIGHT + heading)
        figure.suptitle(_title(shown, dataset), y=1 - 0.2 / figure.get_figheight())
        for number, (abscissa, ordinate) in enumerate(pairs):
            axes = _add_panel(figure, number, columns, heading)
            _describe_axis(axes.xaxis, dataset, abscissa)
            x, y = dataset.attributes[shown, abscissa], _label_ordinates(axes, dataset, ordinate)[shown]
            _draw_points(axes, x, y, dataset.labels[shown], discrete=discrete)
        if discrete:
            _add_legend(figure, names, across)
        else:
            _add_colour_bar(figure, dataset, task, heading)
        return render_svg(figure)


def _digest(dataset: Dataset, task: Task) -> bytes:
    """Identify a data set, by its content, and a task."""
    values_of_codes = {index: list(coded.values) for index, coded in dataset.coded.items()}
    description = [task, dataset.name, dataset.columns, dataset.classes, values_of_codes]
    digest = hashlib.blake2b(json.dumps(description).encode())
    for values in (dataset.attributes, dataset.labels):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.digest()


def _pair_attributes(attributes: list[int]) -> list[tuple[int, int | None]]:
    """Group attributes in pairs; None stands for the label."""
    if len(attributes) == 1:
        return [(attributes[0], None)]
    starts = range(0, min(len(attributes), 2 * MAX_PANELS), 2)
    partners = [start + 1 if start + 1 < len(attributes) else start - 1 for start in starts]
    return [(attributes[start], attributes[partner]) for start, partner in zip(starts, partners, strict=True)]


def _sample(count: int) -> Indices:
    """Choose the rows to draw, shape (m,): all rows, or a random sample that is the same every time."""
    if count <= MAX_POINTS:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, MAX_POINTS, replace=False))


def _title(shown: Indices, dataset: Dataset) -> str:
    count = len(dataset.labels)
    sampled = "" if len(shown) == count else f", {len(shown)} of {count} rows"
    return shorten(dataset.name) + sampled


def _describe_axis(axis: Axis, dataset: Dataset, attribute: int) -> None:
    """Write the caption and the ticks of an axis: the numbers of an attribute, or the names of its values."""
    axis.set_label_text(shorten(dataset.columns[attribute]))
    values = dataset.coded[attribute].values if attribute in dataset.coded else ()
    if 0 < len(values) <= MAX_NAMED_VALUES:
        axis.set_ticks(range(len(values)), [shorten(value, 5) for value in values])
    else:
        _set_ticks(axis)


def _set_ticks(axis: Axis) -> None:
    axis.set_major_locator(MaxNLocator(MAX_TICKS, steps=[1, 2, 2.5, 5, 10]))


def _add_panel(figure: Figure, number: int, columns: int, heading: float) -> Axes:
    width, height = figure.get_size_inches()
    left = number % columns * PANEL_WIDTH
    top = heading + number // columns * PANEL_HEIGHT
    return add_axes(
        figure,
        left=left + LEFT,
        bottom=height - top - PANEL_HEIGHT + BOTTOM,
        right=width - left - PANEL_WIDTH + RIGHT,
        top=top + TOP,
    )


def _label_ordinates(axes: Axes, dataset: Dataset, attribute: int | None) -> Floats | Labels:
    """Write the caption of the y axis, and return the y values, shape (n,)."""
    if attribute is not None:
        _describe_axis(axes.yaxis, dataset, attribute)
        return dataset.attributes[:, attribute]
    axes.set_ylabel("Label")
    if 0 < len(dataset.classes) <= MAX_LEGEND_ENTRIES:
        axes.set_yticks(range(len(dataset.classes)), [shorten(name, 5) for name in dataset.classes])
    return dataset.labels


def _draw_points(axes: Axes, x: Floats, y: Floats | Labels, labels: Labels, *, discrete: bool) -> None:
    if not discrete:
        axes.scatter(x, y, s=16, c=labels, cmap=COLOUR_MAP, linewidths=0)
        return
    for label in np.unique(labels):
        member = labels == label
        axes.add_line(_make_points(int(label), x[member], y[member]))
    axes.autoscale_view()


def _make_points(label: int, x: Floats, y: Floats | Labels) -> Line2D:
    """Make the points of a class: a line with markers only, which takes a tenth of the time of a scatter collection."""
    return Line2D(
        x,
        y,
        linestyle="none",
        marker=MARKERS[label],
        markersize=5,
        markerfacecolor=PALETTE[label],
        markeredgecolor="white",
        markeredgewidth=0.4,
    )


def _add_legend(figure: Figure, names: list[str], across: int) -> None:
    nothing = np.empty(0)
    figure.legend(
        handles=[_make_points(label, nothing, nothing) for label in range(len(names))],
        labels=names,
        loc="upper center",
        bbox_to_anchor=(0.5, 1 - 0.3 / figure.get_figheight()),
        ncols=across,
    )


def _add_colour_bar(figure: Figure, dataset: Dataset, task: Task, heading: float) -> None:
    width, _ = figure.get_size_inches()
    axes = add_axes(figure, left=width - COLOUR_BAR + 0.05, bottom=BOTTOM, right=COLOUR_BAR - 0.25, top=heading + TOP)
    colours = ScalarMappable(Normalize(dataset.labels.min(), dataset.labels.max()), COLOUR_MAP)
    figure.colorbar(colours, cax=axes, label="Label" if task is Task.REGRESSION else "Class number, counted from 0")
