"""Whatever is in a file, its inspection ends soon, in bounded memory, with facts or with a sentence."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from shared.audio.facts import AudioFacts
from shared.inspection.inspectors import INSPECTORS, inspect_file
from shared.inspection.upload_kinds import START_BYTES, UploadKind, detect_kind
from shared.settings import Settings
from shared.texts import Text, load_sentences, render
from tests.support.audio_zoo import ZOO
from tests.support.mutants import MutantReader, make_mutants
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.xdist_group("audio zoo"), pytest.mark.slow]

MEMORY_MB: Final = 256
MAX_MEMORY_BYTES: Final = 400 * 2**20
"""What a process with its libraries may have touched: 60 MB are Python's, numpy's and FFmpeg's."""
MAX_CPU_S: Final = 5.0
WANTED: Final = {"start_s": 0.5, "end_s": 1.5, "max_length_s": 30.0, "rate_hz": 32_000, "channels": 2}
OPTIONS: Final = {"max_s": 3_600.0, "wanted": WANTED}
CHECKED_IN_PRODUCTION: Final = 8
"""How many mutants are also read by a process of their own, as uploads are."""


def list_originals(zoo: Mapping[str, Path]) -> list[bytes]:
    return [zoo[specimen.name].read_bytes() for specimen in ZOO if specimen.source != (192_000, 2)]


@contextmanager
def start_reader(folder: Path) -> Iterator[MutantReader]:
    with MutantReader(folder, MEMORY_MB, DEADLINE_S) as reader:
        yield reader


def check_end(end: dict[str, Any]) -> None:
    match end:
        case {"facts": facts, "bytes": int()}:
            assert facts["read_s"] <= OPTIONS["max_s"]
            assert all(render(Text.parse(warning)) for warning in facts["warnings"])
        case {"facts": facts}:
            AudioFacts.model_validate(facts)
        case {"problem": problem}:
            assert problem["code"] in load_sentences()
        case _:
            pytest.fail(f"neither facts nor a sentence: {end}")


def check_in_production(path: Path) -> None:
    """Read a file as an upload is read: whatever it does to its process, an answer comes of it."""
    settings = Settings(inspection_memory_mb=MEMORY_MB)
    answer = inspect_file(INSPECTORS[UploadKind.AUDIO], path, settings, {})
    assert (answer.facts is None) != (answer.problem is None)
    if answer.problem is not None:
        assert render(answer.problem)
        assert answer.problem.code != "inspection-failed"


@pytest.mark.parametrize("count", [200, pytest.param(2_000, marks=pytest.mark.long)])
def test_every_mutant_ends_with_facts_or_a_sentence(zoo: Mapping[str, Path], tmp_path: Path, count: int) -> None:
    readable, slowest_s, largest_bytes = 0, 0.0, 0
    with start_reader(tmp_path) as reader:
        for number, mutant in enumerate(make_mutants(list_originals(zoo), count)):
            detect_kind(mutant[:START_BYTES], "clip")
            answer = reader.read(mutant, OPTIONS)
            if answer is None or number % (count // CHECKED_IN_PRODUCTION) == 0:
                path = tmp_path / f"{number}"
                path.write_bytes(mutant)
                check_in_production(path)
            if answer is None:
                continue
            check_end(answer["inspected"])
            check_end(answer["decoded"])
            assert answer["cpu_s"] < MAX_CPU_S, number
            assert answer["memory_bytes"] < MAX_MEMORY_BYTES, number
            readable += "facts" in answer["inspected"]
            slowest_s, largest_bytes = max(slowest_s, answer["cpu_s"]), max(largest_bytes, answer["memory_bytes"])
        deaths = reader.deaths
    sys.stdout.write(
        f"of {count} mutants {readable} were read; {deaths} ended the process; at most {slowest_s:.2f} s of processor "
        f"time and {largest_bytes / 2**20:.0f} MiB\n"
    )
    assert readable > count / 3
    assert deaths < count / 100
