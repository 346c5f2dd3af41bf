"""The two pictures of a sample: its waveform and its spectrogram."""

import io
import math
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from worker.engines.chart_style import PALETTE, add_axes, make_figure, release, render_svg, style

COLUMNS: Final = 720
"""Columns of a waveform: one per point of width (1/72 inch), so that the position of each column is a short number in
the file."""
POINTS_PER_INCH: Final = 72
CHANNEL_INCHES: Final = 1.5
LEVELS: Final = 540
"""Number of distinct heights in the panel of a channel: five per point, so that heights are also short numbers."""
SIDES: Final = ("Left", "Right")

WINDOW: Final = 2048
HOP: Final = 512
MAX_COLUMNS: Final = 900
FRAMES_AT_ONCE: Final = 2_000
"""How many frames are transformed at a time. In stereo this takes about 100 MB, even if the audio is long."""
RANGE_DB: Final = 80.0
FLOOR_DBFS: Final = -120.0
"""The level at which digital silence is drawn."""


def draw_waveform(audio: NDArray[np.float32], sample_rate_hz: int) -> bytes:
    """Draw the lowest and highest sample over time, one panel per channel, as SVG.

    Parameters
    ----------
    audio
        Shape (channels, samples), nominally -1 to 1; if samples are beyond -1 to 1, the scale is enlarged.
    sample_rate_hz
        The sampling rate of the audio.
    """
    channels, count = audio.shape
    limit = max(1.0, float(np.abs(audio).max(initial=0.0)))
    left, bottom, right, top, gap = 0.75, 0.55, 0.25, 0.2, 0.15
    width, height = COLUMNS / POINTS_PER_INCH, channels * CHANNEL_INCHES + (channels - 1) * gap
    with style():
        figure = make_figure(left + width + right, bottom + height + top)
        for channel, samples in enumerate(audio):
            below = (channels - 1 - channel) * (CHANNEL_INCHES + gap)
            above = channel * (CHANNEL_INCHES + gap)
            axes = add_axes(figure, left=left, bottom=bottom + below, right=right, top=top + above)
            axes.add_patch(Polygon(_outline(samples, limit), closed=True, color=PALETTE[0], linewidth=0.5))
            axes.set_xlim(0, COLUMNS)
            axes.set_ylim(-limit, limit)
            axes.set_yticks([-1, 0, 1])
            axes.set_ylabel(SIDES[channel] if channels == len(SIDES) else "Amplitude")
            _mark_seconds(axes, count / sample_rate_hz, labelled=channel == channels - 1)
        return render_svg(figure)


def _outline(samples: NDArray[np.float32], limit: float) -> NDArray[np.float64]:
    """Return the outline of a channel, shape (points, 2): along the highest samples, then back along the lowest."""
    columns = min(COLUMNS, len(samples))
    starts = np.arange(columns) * len(samples) // columns
    highest = np.maximum.reduceat(samples, starts)
    lowest = np.minimum.reduceat(samples, starts)
    places = np.round(np.linspace(0, COLUMNS, columns))
    step = 2 * limit / LEVELS
    heights = np.round(np.concatenate([highest, lowest[::-1]]).astype(np.float64) / step) * step
    return np.column_stack([np.concatenate([places, places[::-1]]), heights])


def _mark_seconds(axes: Axes, duration_s: float, *, labelled: bool) -> None:
    """Mark round numbers of seconds on an axis whose unit is the column."""
    seconds = np.asarray(MaxNLocator(10, steps=[1, 2, 5, 10]).tick_values(0, duration_s))
    seconds = seconds[seconds <= duration_s]
    axes.set_xticks(seconds / duration_s * COLUMNS, [f"{second:g}" for second in seconds] if labelled else [])
    if labelled:
        axes.set_xlabel("Time, s")


def draw_spectrogram(audio: NDArray[np.float32], sample_rate_hz: int) -> bytes:
    """Draw the power over time and frequency, averaged over the channels, as PNG.

    A sine of full scale has 0 dBFS.

    Parameters
    ----------
    audio
        Shape (channels, samples), nominally -1 to 1.
    sample_rate_hz
        The sampling rate of the audio.
    """
    levels = _analyse(audio, sample_rate_hz)
    highest = max(10 * math.ceil(levels.max() / 10), FLOOR_DBFS + RANGE_DB)
    with style():
        figure = Figure(figsize=(9, 3), dpi=100)
        FigureCanvasAgg(figure)
        axes = add_axes(figure, left=0.6, bottom=0.5, right=1.0, top=0.15)
        axes.grid(visible=False)
        image = axes.imshow(
            levels,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=highest - RANGE_DB,
            vmax=highest,
            extent=(0, audio.shape[1] / sample_rate_hz, 0, sample_rate_hz / 2_000),
        )
        axes.set_xlabel("Time, s")
        axes.set_ylabel("Frequency, kHz")
        bar = add_axes(figure, left=8.15, bottom=0.5, right=0.7, top=0.15)
        figure.colorbar(image, cax=bar, label="dBFS")
        content = io.BytesIO()
        # With this compression level, the time is half of that with the default level, and the file is a tenth larger.
        figure.savefig(content, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 1})
        release(figure)
        return content.getvalue()


def _analyse(audio: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float64]:
    """Return the level of audio in dBFS, shape (frequencies, columns), with at most ``MAX_COLUMNS`` columns of time."""
    count = audio.shape[1]
    transform = ShortTimeFFT(hann(WINDOW, sym=False), HOP, sample_rate_hz, fft_mode="onesided2X", scale_to="magnitude")
    padded = np.pad(audio, ((0, 0), (0, max(WINDOW - count, 0))))  # the transform refuses shorter audio
    frames = math.ceil(count / HOP)
    frames_per_column = math.ceil(frames / MAX_COLUMNS)
    stripe = max(FRAMES_AT_ONCE // frames_per_column, 1) * frames_per_column
    powers = [
        _average_power(transform, padded, first, min(first + stripe, frames), frames_per_column)
        for first in range(0, frames, stripe)
    ]
    return np.asarray(10 * np.log10(np.maximum(np.concatenate(powers, axis=1), 10 ** (FLOOR_DBFS / 10))))


def _average_power(
    transform: ShortTimeFFT, audio: NDArray[np.float32], first: int, last: int, frames_per_column: int
) -> NDArray[np.float64]:
    """Average the power of the frames from ``first`` to ``last`` (excluded), shape (frequencies, columns).

    The power is averaged over the channels, and over ``frames_per_column`` neighbouring frames per column.
    """
    powers = np.abs(transform.stft(audio, p0=first, p1=last, axis=1)) ** 2  # (channels, frequencies, frames)
    starts = np.arange(0, last - first, frames_per_column)
    sums = np.add.reduceat(powers.mean(axis=0), starts, axis=1)
    return np.asarray(sums / np.diff(starts, append=last - first))
