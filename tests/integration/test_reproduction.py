"""The client generates the music of a file again, on an instance with another state folder."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from shared.client import Client
from shared.client.__main__ import main
from shared.client.commands import Exit
from shared.instance.ready import format_address
from shared.kinds.musicgen.catalogue import TINY
from shared.kinds.musicgen.parameters import Format
from shared.settings import Settings
from tests.support.instances import make_settings, start_by_make, wait_for_ready

STEREO = "someone/stereo"
BASE: dict[str, Any] = {"model": TINY, "prompts": ["rock"], "max_new_tokens": 20}


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Settings]]:
    """Two instances that share nothing."""
    with ExitStack() as stack:
        started = []
        for name in ("first", "second"):
            settings = stack.enter_context(make_settings())
            log = tmp_path_factory.mktemp(name) / "log"
            instance = start_by_make(settings, log)
            stack.callback(instance.close)
            started.append((instance, settings))
        for instance, settings in started:
            wait_for_ready(instance, settings)
        yield started[0][1], started[1][1]


def make(settings: Settings, folder: Path, **params: Any) -> Path:
    """Run a job of one sample, and return the path of its audio file."""
    with Client(format_address(settings)) as client:
        job = client.wait(client.submit("musicgen", BASE | params).id)
        assert job.error is None
        assert job.result is not None
        [audio] = client.download(job.id, folder, job.result["samples"][0]["audio"])
        return audio


def reproduce(settings: Settings, *words: object) -> Exit:
    return main(["reproduce", "--server", format_address(settings), *map(str, words)])


@pytest.mark.parametrize("audio_format", Format)
def test_a_file_of_each_format_is_generated_again(
    instances: tuple[Settings, Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str], audio_format: Format
) -> None:
    first, second = instances
    audio = make(first, tmp_path, format=audio_format)
    assert reproduce(second, audio) is Exit.DONE
    assert capsys.readouterr().out.startswith("equal: ")
