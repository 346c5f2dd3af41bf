"""Every kind of audio that people have is recognised, and decoded to its end, in time and at its level."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.audio.container import open_audio
from shared.audio.decoding import Decoding
from shared.audio.inspecting import inspect_audio
from shared.audio.meter import find_scale
from shared.audio.part import WantedPart, decode_part
from shared.inspection.upload_kinds import START_BYTES, UploadKind, detect_audio_type, detect_kind
from tests.support.audio_zoo import CLICKS_S, DURATION_S, LEVELS, TONE_S, ZOO, Specimen, find_click

# In one process, so that the files are made once.
pytestmark = [pytest.mark.xdist_group("audio zoo"), pytest.mark.parametrize("specimen", ZOO, ids=lambda it: it.name)]

MAX_S = 60.0
TIME_TOLERANCE_S = 0.001
PART_TOLERANCE_S = 0.020
UNRECOGNISED = frozenset({"junk.mp3"})
"""Files whose beginning says nothing; their names do."""


def decode(path: Path) -> tuple[NDArray[np.float32], int]:
    """Decode a file: samples of the shape (samples, channels), and the rate."""
    with open_audio(path) as audio:
        blocks = list(Decoding(audio, MAX_S).read_blocks())
        samples = np.concatenate([block.samples for block in blocks])
        return samples / find_scale(float(np.abs(samples).max()), is_float=audio.is_float), blocks[0].rate_hz


def list_starts(specimen: Specimen) -> list[float]:
    """List when each copy of the source begins."""
    return [specimen.padding_s + copy * (DURATION_S + specimen.join_s) for copy in range(specimen.copies)]


def test_kind_is_recognised_by_the_content(zoo: Mapping[str, Path], specimen: Specimen) -> None:
    with zoo[specimen.name].open("rb") as file:
        start = file.read(START_BYTES)
    if specimen.name not in UNRECOGNISED:
        assert detect_kind(start, "table.csv") is UploadKind.AUDIO
        assert detect_audio_type(start) is not None
    assert detect_kind(start, specimen.name) is UploadKind.AUDIO


def test_facts_are_those_of_the_source(zoo: Mapping[str, Path], specimen: Specimen) -> None:
    facts = inspect_audio(zoo[specimen.name], MAX_S)
    assert (facts.rate, facts.channels) == specimen.source
    expected_s = specimen.copies * specimen.duration_s + specimen.excess_s
    assert abs(facts.duration_s - expected_s) < TIME_TOLERANCE_S
    assert tuple(warning.code for warning in facts.warnings) == specimen.warnings


def test_clicks_and_levels_are_those_of_the_source(zoo: Mapping[str, Path], specimen: Specimen) -> None:
    sound, rate_hz = decode(zoo[specimen.name])
    for start_s in list_starts(specimen):
        for click_s in (start_s + at_s for at_s in CLICKS_S if at_s < specimen.duration_s):
            assert abs(find_click(sound[:, 0], rate_hz, click_s) - click_s) < TIME_TOLERANCE_S
    first, last = (round((at_s + specimen.padding_s) * rate_hz) for at_s in (TONE_S[0] + 0.1, TONE_S[1] - 0.25))
    levels = np.sqrt(2 * np.square(sound[first:last], dtype=np.float64).mean(axis=0))
    for level, expected in zip(levels[:2], LEVELS, strict=False):
        assert abs(20 * np.log10(level / expected)) < specimen.level_db
    assert np.abs(sound[:, 2:]).max(initial=0.0) < 0.01  # the other channels stay apart


@pytest.mark.parametrize("channels", [1, 2])
def test_part_begins_where_it_was_asked_for(zoo: Mapping[str, Path], specimen: Specimen, channels: int) -> None:
    start_s, length_s = CLICKS_S[1] - 0.3, 0.8
    wanted = WantedPart(start_s, start_s + length_s, 30.0, 32_000, channels)
    part = decode_part(zoo[specimen.name], wanted, MAX_S)
    assert part.samples.shape == (round(length_s * 32_000), channels)
    expected_s = 0.3 + specimen.padding_s
    assert abs(find_click(part.samples[:, 0], 32_000, expected_s) - expected_s) < PART_TOLERANCE_S
    assert part.part_s == pytest.approx(length_s, abs=0.001)
