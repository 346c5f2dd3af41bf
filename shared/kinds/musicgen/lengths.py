"""How much music a model can make: the delay pattern, the number of new tokens, and what does not fit.

A sequence has the start token, the frames of the clip, and the new tokens, and not more positions than the model.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from shared.audio.facts import MIN_CLIP_S
from shared.errors import Problem
from shared.kinds.musicgen.model_figures import ModelFigures
from shared.kinds.musicgen.parameters import DEFAULT_DURATION_S, MusicgenParams
from shared.texts import text

CENTISECONDS: Final = 100
"""Lengths in sentences have hundredths of a second, rounded down where a value must not be exceeded."""


ROUNDING: Final = 1e-6
"""Sums and differences of decimal fractions are off by less: 0.8 - 0.7 is a little below 0.1."""
NOMINAL_FRAME_RATE: Final = 50
"""The frame rate of the published models, by which limits convert tokens to seconds."""


class Codebooks(Protocol):
    """What decides the delays of a model."""

    @property
    def codebooks(self) -> int:
        """The number of codebooks, of all channels together."""

    @property
    def channels(self) -> int:
        """1 for mono, 2 for stereo."""


def list_delays(config: Codebooks) -> tuple[int, ...]:
    """Return how many steps late each codebook starts in a sequence that is long enough for the delay pattern."""
    return tuple(codebook // config.channels for codebook in range(config.codebooks))


def get_delays(length: int, config: Codebooks) -> tuple[int, ...]:
    """Return the delay of each codebook in a sequence of ``length`` positions.

    As in transformers, all delays are 0 if the sequence is too short for the delay pattern.
    """
    if length < 2 * (config.codebooks // config.channels) - 1:
        return (0,) * config.codebooks
    return list_delays(config)


def count_tokens(frames: int, clip_frames: int, config: Codebooks) -> int:
    """Count the positions that must be generated for ``frames`` new frames.

    The last codebook starts late by its delay, so it also ends late: the delay is added to ``frames``,
    unless the sequence is so short that it has no delays.
    """
    delayed = frames + max(list_delays(config))
    return delayed if any(get_delays(1 + clip_frames + delayed, config)) else frames


def count_new_tokens(params: MusicgenParams, clip_frames: int, figures: ModelFigures) -> int:
    """Count the positions to generate; ``duration_s`` is the duration of the new music, without the clip."""
    if params.max_new_tokens is not None:
        return params.max_new_tokens
    frames = max(1, round((params.duration_s or DEFAULT_DURATION_S) * figures.frame_rate))
    return count_tokens(frames, clip_frames, figures)


def count_min_tokens(new_tokens: int, clip_frames: int, figures: ModelFigures) -> int:
    """Count the new tokens that a continuation needs at least: with fewer, the delays leave it no new frame."""
    return 1 + max(get_delays(1 + clip_frames + new_tokens, figures))


def count_clip_frames(samples: int, figures: ModelFigures) -> int:
    """Count the frames of a clip of so many samples at the sampling rate of the model."""
    return math.ceil(samples / figures.hop)


def find_length_problems(
    params: MusicgenParams, clips: Mapping[int, float], figures: ModelFigures
) -> Iterator[Problem]:
    """Find what is too long for the model, or too short to be continued.

    Parameters
    ----------
    clips
        The lengths of the clips in seconds, keyed by their place in ``audio_prompts``.
    """
    frames = {
        index: count_clip_frames(round(length_s * figures.sample_rate_hz), figures) for index, length_s in clips.items()
    }
    longest = max(frames.values(), default=0)
    new_tokens = count_new_tokens(params, longest, figures)
    min_tokens = count_min_tokens(new_tokens, longest, figures)
    if params.max_new_tokens is not None and longest and new_tokens < min_tokens:
        yield Problem("/params/max_new_tokens", text("tokens-too-few", min_tokens=min_tokens))
    elif new_tokens > figures.positions - 1 - longest:
        yield from _refuse_length(params, clips, frames, figures)


def _refuse_length(
    params: MusicgenParams, clips: Mapping[int, float], frames: Mapping[int, int], figures: ModelFigures
) -> Iterator[Problem]:
    """Say which length would fit; if the clips leave no room for music, say which part of them would fit."""
    delay, capacity, longest = max(list_delays(figures)), figures.positions - 1, max(frames.values(), default=0)
    total_s, free_s = (floor((capacity - used - delay) / figures.frame_rate) for used in (0, longest))
    values = {"total_s": total_s, "clip_s": max(clips.values(), default=0.0)}
    if free_s > 0 and params.max_new_tokens is not None:
        code = "tokens-beyond-clip" if longest else "tokens-beyond-model"
        yield Problem("/params/max_new_tokens", text(code, max_tokens=capacity - longest, **values))
    elif free_s > 0:
        code = "duration-beyond-clip" if longest else "duration-beyond-model"
        yield Problem("/params/duration_s", text(code, max_s=free_s, **values))
    else:
        room = capacity - count_new_tokens(params, longest, figures)
        if room < math.ceil(MIN_CLIP_S * figures.frame_rate):
            room = capacity - delay - 1  # the new music alone would be too long, too; this is said in the next answer
        for index, used in frames.items():
            if used >= capacity - delay:
                max_s = floor(room * figures.hop / figures.sample_rate_hz)
                end_s = floor(params.audio_prompts[index].start_s + max_s)
                values = {"clip_s": clips[index], "max_s": max_s, "max_end_s": end_s}
                yield Problem(f"/params/audio_prompts/{index}/end_s", text("clip-leaves-no-room", **values))


def measure_music(params: MusicgenParams) -> float:
    """Return how many seconds of new music a job makes, all samples together."""
    return measure_sample(params) * count_rows(params) * params.num_samples


def measure_sample(params: MusicgenParams) -> float:
    """Return how many seconds of new music each sample has."""
    if params.max_new_tokens is not None:
        return params.max_new_tokens / NOMINAL_FRAME_RATE
    return params.duration_s or DEFAULT_DURATION_S


def count_rows(params: MusicgenParams) -> int:
    """Count the prompts, or the clips if there are no prompts; each of them is used for ``num_samples`` samples."""
    return max(len(params.prompts), len(params.audio_prompts), 1)


def find_amount_problems(params: MusicgenParams, max_s: float) -> Iterator[Problem]:
    """Find out whether a job makes more music than one job may."""
    sample_s, rows = measure_sample(params), count_rows(params)
    music_s = measure_music(params)
    if music_s <= max_s:
        return
    values = {"rows": rows, "samples": params.num_samples, "sample_s": sample_s, "music_s": music_s, "max_s": max_s}
    yield Problem(find_amount_pointer(params), text("music-too-much", **values))


def find_amount_pointer(params: MusicgenParams) -> str:
    """Return the pointer of the field that multiplies the music most; a single prompt and sample multiply nothing."""
    factors = {
        "num_samples": params.num_samples,
        "prompts" if params.prompts else "audio_prompts": count_rows(params),
    }
    if max(factors.values()) > 1:
        return f"/params/{max(factors, key=lambda name: factors[name])}"
    return f"/params/{'duration_s' if params.max_new_tokens is None else 'max_new_tokens'}"


def floor(length_s: float) -> float:
    """Round down to hundredths of a second."""
    return max(math.floor(CENTISECONDS * length_s + ROUNDING) / CENTISECONDS, 0.0)
