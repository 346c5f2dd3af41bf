"""What is said to fit at submission is what the worker accepts, for models of any figures."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from huggingface_hub import constants

from shared.errors import JobFailedError
from shared.kinds.musicgen.catalogue import CONFIGURATION, TINY
from shared.kinds.musicgen.lengths import count_clip_frames, count_new_tokens, find_length_problems
from shared.kinds.musicgen.model_figures import PUBLISHED, ModelFigures, find_figures
from shared.kinds.musicgen.parameters import MusicgenParams
from shared.settings import Settings
from tests.references.musicgen_cases import TINY as SMALLEST
from worker.engines.musicgen.model.builtin_model import TINY as BUILT_IN
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.random_model import SMALL, write_random_model

FIGURES = {
    "published": PUBLISHED[1],
    "stereo": PUBLISHED[2],
    "short": replace(PUBLISHED[1], positions=300),
    "fast": ModelFigures(512, 4, 1, 3_200, (4, 2)),
    "odd": ModelFigures(700, 8, 1, 44_100, (7, 5, 4, 3)),
}


@pytest.mark.parametrize("figures", FIGURES.values(), ids=FIGURES)
def test_the_length_that_is_said_to_fit_fits_and_a_longer_one_does_not(figures: ModelFigures) -> None:
    total_s = figures.positions / figures.frame_rate
    for share, given in product((0.0, 0.1, 0.5, 0.9), ("duration_s", "max_new_tokens")):
        clips = {0: share * total_s} if share else {}
        params = MusicgenParams.model_validate({given: 600 if given == "duration_s" else 30_000})
        (problem,) = find_length_problems(params, clips, figures)
        assert problem.pointer == f"/params/{given}"
        is_duration = given == "duration_s"
        fitting: float = float(problem.detail.removeprefix("must be at most ").split()[0].rstrip(":,"))
        fitting = fitting if is_duration else int(fitting)
        accepted = params.model_copy(update={given: fitting})
        assert [*find_length_problems(accepted, clips, figures)] == []
        frames = count_clip_frames(round(clips.get(0, 0.0) * figures.sample_rate_hz), figures)
        assert 1 + frames + count_new_tokens(accepted, frames, figures) <= figures.positions
        longer = params.model_copy(update={given: fitting + (0.02 + 1 / figures.frame_rate if is_duration else 1)})
        assert [it.pointer for it in find_length_problems(longer, clips, figures)] == [f"/params/{given}"]


@pytest.mark.parametrize("figures", FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize("duration_s", [0.05, 0.5, 600])
def test_the_part_of_a_clip_that_is_said_to_fit_leaves_room_for_music(figures: ModelFigures, duration_s: float) -> None:
    clip = {"upload": "u", "start_s": 2.5}
    params = MusicgenParams.model_validate({"audio_prompts": [clip], "duration_s": duration_s})
    (problem,) = find_length_problems(params, {0: 3_600.0}, figures)
    assert (problem.pointer, problem.code) == ("/params/audio_prompts/0/end_s", "clip-leaves-no-room")
    part_s = float(str(problem.text.values["max_end_s"])) - 2.5
    again = [*find_length_problems(params, {0: part_s}, figures)]
    assert {it.pointer for it in again} <= {"/params/duration_s"}
    assert duration_s == 600 or not again


def test_a_published_model_has_the_figures_of_its_configuration(tmp_path: Path) -> None:
    for channels, figures in PUBLISHED.items():
        folder = tmp_path / str(channels)
        write_random_model(folder, replace(BUILT_IN, channels=channels), 0)
        assert ModelConfig.read(folder).figures == figures
    assert {SMALL.positions, SMALL.sample_rate_hz, SMALL.ratios} == {2_048, 32_000, (8, 5, 4, 4)}


def test_figures_are_read_from_a_folder_and_otherwise_those_of_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, models_dir=tmp_path / "models", models_allowed="known,someone/*")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert find_figures(settings, TINY) == find_figures(settings, "facebook/musicgen-small") == PUBLISHED[1]
    assert find_figures(settings, "facebook/musicgen-stereo-large") == PUBLISHED[2]
    assert find_figures(settings, "someone/own") is None
    folder = tmp_path / "models" / "someone" / "own"
    write_random_model(folder, SMALLEST, 1)
    assert find_figures(settings, "someone/own") == FIGURES["fast"]
    content = (folder / CONFIGURATION).read_text()
    (folder / CONFIGURATION).write_text(
        content.replace('"max_position_embeddings": 512', '"max_position_embeddings": 77')
    )
    found = find_figures(settings, "someone/own")
    assert found is not None
    assert found.positions == 77
    (folder / CONFIGURATION).write_text("{}")
    assert find_figures(settings, "someone/own") is None
    with pytest.raises(JobFailedError):
        ModelConfig.read(folder)
