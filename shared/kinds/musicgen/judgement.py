"""Judges a music job at submission, by what the inspections have found in its clips and by the figures of its model.

No file is decoded, so that a submission takes milliseconds. The worker checks again what it decodes and loads.
"""

import math
from collections.abc import Iterator, Mapping

from shared.audio.facts import END_TOLERANCE_S, MIN_CLIP_S, AudioFacts
from shared.errors import Problem
from shared.kinds.musicgen.lengths import CENTISECONDS, ROUNDING, find_length_problems, floor
from shared.kinds.musicgen.model_figures import ModelFigures
from shared.kinds.musicgen.parameters import AudioPrompt, MusicgenParams
from shared.texts import text


def find_problems(
    params: MusicgenParams, facts: Mapping[str, AudioFacts], figures: ModelFigures | None
) -> Iterator[Problem]:
    """Find what makes a job fail.

    Parameters
    ----------
    facts
        What was found in the uploads, keyed by upload id. The worker judges the clips of uploads that are missing here.
    figures
        The figures of the model; if they are not known, the worker judges the lengths.
    """
    clips: dict[int, float] = {}
    unusable: list[Problem] = []
    for index, clip in enumerate(params.audio_prompts):
        if clip.upload in facts:
            length_s = facts[clip.upload].duration_s
            unusable += _judge_clip(f"/params/audio_prompts/{index}", clip, length_s)
            clips[index] = measure_part(clip, length_s)
    yield from unusable
    if figures is not None and not unusable:
        yield from find_length_problems(params, clips, figures)


def _judge_clip(pointer: str, clip: AudioPrompt, length_s: float) -> Iterator[Problem]:
    """Find the problems of the chosen part of a file that is ``length_s`` long."""
    max_start_s = floor(length_s - MIN_CLIP_S)
    if length_s < MIN_CLIP_S - ROUNDING:
        yield Problem(f"{pointer}/upload", text("clip-file-too-short", length_s=length_s, min_s=MIN_CLIP_S))
    elif clip.start_s >= length_s:
        values = {"start_s": clip.start_s, "length_s": length_s, "max_s": max_start_s}
        yield Problem(f"{pointer}/start_s", text("clip-starts-beyond-end", **values))
    elif clip.end_s is not None and clip.end_s > length_s + END_TOLERANCE_S:
        values = {"end_s": clip.end_s, "length_s": length_s, "max_s": floor(length_s)}
        yield Problem(f"{pointer}/end_s", text("clip-ends-beyond-end", **values))
    elif measure_part(clip, length_s) < MIN_CLIP_S - ROUNDING:
        if clip.start_s > max_start_s:
            values = {"start_s": clip.start_s, "length_s": length_s, "min_s": MIN_CLIP_S, "max_s": max_start_s}
            yield Problem(f"{pointer}/start_s", text("clip-starts-too-late", **values))
        else:
            min_end_s = math.ceil(CENTISECONDS * (clip.start_s + MIN_CLIP_S) - ROUNDING) / CENTISECONDS
            values = {"start_s": clip.start_s, "min_s": MIN_CLIP_S, "min_end_s": min_end_s}
            yield Problem(f"{pointer}/end_s", text("clip-ends-too-early", **values))


def measure_part(clip: AudioPrompt, length_s: float) -> float:
    """Return the length of the chosen part of a file that is ``length_s`` long, in seconds."""
    end_s = length_s if clip.end_s is None else min(clip.end_s, length_s)
    return end_s - clip.start_s
