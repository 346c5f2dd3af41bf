"""The composer over MindNLP, beside what transformers on PyTorch makes: see ``tests.references``.

MindNLP takes a fifth of a second for each step of the smallest model, so the
cases are few, and each shows something of its own.
"""

import dataclasses
import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from shared.errors import JobFailedError, JobStoppedError
from tests.references.musicgen_cases import CASES, MONO, Case, Model, hash_weights
from worker.engines.musicgen.backends.mindnlp.backend import MindnlpGenerator
from worker.engines.musicgen.request import GeneratedSample, GenerationRequest, SampleRequest, Tokens

COMPARED = (
    "text_two",
    "clip_shortest",  # too short for a new frame
    "stereo_clips_two",
)
# Their first steps alone, since no later one changes what those choose.
BEGUN = {"unconditional_two": 8, "clips_two_alone": 8, "sampled_all": 8}
NAMED = {case.name: case for case in CASES}

Load = Callable[[Model], MindnlpGenerator]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Model], Path]:
    folders: dict[Model, Path] = {}

    def write_once(model: Model) -> Path:
        if model not in folders:
            folders[model] = tmp_path_factory.mktemp("model")
            model.write(folders[model])
        return folders[model]

    return write_once


@pytest.fixture(scope="module")
def load(write: Callable[[Model], Path]) -> Load:
    loaded: dict[Model, MindnlpGenerator] = {}

    def load_once(model: Model) -> MindnlpGenerator:
        if model not in loaded:
            loaded[model] = MindnlpGenerator(write(model))
        return loaded[model]

    return load_once


def ignore_progress(**_: object) -> None:
    pass


def ignore_tokens(_: Sequence[Tokens]) -> None:
    pass


def compose(composer: MindnlpGenerator, order: GenerationRequest) -> list[GeneratedSample]:
    return composer.generate(order, ignore_progress, ignore_tokens, None)


def shorten(case: Case, steps: int) -> GenerationRequest:
    return dataclasses.replace(case.order(), new_tokens=steps)


@pytest.mark.parametrize("name", COMPARED)
def test_makes_what_transformers_makes(load: Load, write: Callable[[Model], Path], name: str) -> None:
    case = NAMED[name]
    expected = case.read()
    assert hash_weights(write(case.model)) == expected["weights_sha256"], "the random weights are others"
    pieces = compose(load(case.model), case.order())
    paddings = expected.get("padding_samples", np.zeros(len(pieces), np.int32))
    hop = load(case.model).config.codec.hop
    assert len(pieces) == len(case.prompts)
    for piece, codes, audio, padding in zip(pieces, expected["codes"], expected["audio"], paddings, strict=True):
        np.testing.assert_array_equal(piece.codes, codes[:, padding // hop :])
        assert piece.codes.dtype == np.int16
        assert piece.audio.dtype == np.float32
        np.testing.assert_allclose(piece.audio, audio[:, padding:], rtol=0, atol=1e-5 * np.abs(audio).max())


@pytest.mark.parametrize("name", BEGUN)
def test_begins_as_transformers_does(load: Load, name: str) -> None:
    case = NAMED[name]
    expected = case.read()
    pieces = compose(load(case.model), shorten(case, BEGUN[name]))
    paddings = expected.get("padding_samples", np.zeros(len(pieces), np.int32))
    for piece, codes, padding in zip(pieces, expected["codes"], paddings, strict=True):
        # In the last two frames, later codebooks see that earlier ones have ended.
        begun = piece.codes[:, :-2]
        given = codes[:, padding // load(case.model).config.codec.hop :]
        np.testing.assert_array_equal(begun, given[:, : begun.shape[1]])


def test_goes_on_where_an_attempt_broke_off(load: Load) -> None:
    composer = load(MONO)
    order = shorten(NAMED["sampled_all"], 8)
    kept: list[Sequence[Tokens]] = []
    whole = composer.generate(order, ignore_progress, kept.append, None)
    told: list[dict[str, Any]] = []
    known = [kept[4][0], kept[6][1]]  # as an engine whose samples do not go in step would leave them
    resumed = composer.generate(order, lambda **state: told.append(state), ignore_tokens, known)
    assert next(state["done"] for state in told if state["stage"] == "generating") == 5
    again = composer.generate(order, ignore_progress, ignore_tokens, kept[-1])
    for one, two, three in zip(whole, resumed, again, strict=True):
        np.testing.assert_array_equal(two.codes, one.codes)
        np.testing.assert_array_equal(three.codes, one.codes)


def test_keeps_tokens_at_each_step_and_tells_of_stages(load: Load) -> None:
    told: list[dict[str, Any]] = []
    kept: list[list[Tokens]] = []
    order = shorten(NAMED["text_two"], 7)

    def tell(**state: Any) -> None:
        told.append(state)

    def keep(tokens: Sequence[Tokens]) -> None:
        kept.append([each.copy() for each in tokens])

    load(MONO).generate(order, tell, keep, None)
    assert list(dict.fromkeys(state["stage"] for state in told)) == ["encoding", "generating", "decoding"]
    steps = [(state["done"], state["total"], state["unit"]) for state in told if state["stage"] == "generating"]
    assert list(dict.fromkeys(steps)) == [(done, 7, "steps") for done in range(7)]
    # Each layer tells, since a step of a real model takes seconds.
    assert len(steps) > 7 * 20
    assert [[each.shape for each in tokens] for tokens in kept] == [[(4, 2 + step)] * 2 for step in range(7)]
    for earlier, later in itertools.pairwise(kept):
        np.testing.assert_array_equal(later[1][:, : earlier[1].shape[1]], earlier[1])


def test_stops_within_a_stage(load: Load) -> None:
    composer = load(MONO)
    order = shorten(NAMED["text_guided"], 3)
    for stage in ("encoding", "generating", "decoding"):
        seen: list[str] = []

        def stop(**state: Any) -> None:
            seen.append(state["stage"])  # noqa: B023 - called in this turn only
            if seen.count(stage) == 3:  # noqa: B023 - the same
                raise JobStoppedError("Enough.")

        with pytest.raises(JobStoppedError, match="Enough"):
            composer.generate(order, stop, ignore_tokens, None)
        assert seen.count(stage) == 3
        assert seen[-1] == stage
    calls = len(seen)
    # Nothing of it stays behind: not its hooks either, or it would be stopped again.
    compose(composer, order)
    assert len(seen) == calls


def test_refuses_samples_of_different_kinds(load: Load) -> None:
    order = shorten(NAMED["text_guided"], 3)
    mixed = dataclasses.replace(order, samples=[*order.samples, SampleRequest(None, None, 1)])
    with pytest.raises(JobFailedError, match="choose the engine mindspore") as caught:
        compose(load(MONO), mixed)
    assert caught.value.type == "unsupported"


def test_refuses_a_folder_without_a_tokenizer(write: Callable[[Model], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(write(MONO), tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(JobFailedError, match="download the model again") as caught:
        MindnlpGenerator(folder)
    assert caught.value.type == "model-invalid"


def test_refuses_weights_that_transformers_would_make_up(write: Callable[[Model], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(write(MONO), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    # A convolution whose norm is folded: the engine's own reader takes it, transformers does not.
    stem = "audio_encoder.decoder.layers.0.conv"
    weights[f"{stem}.weight"] = weights.pop(f"{stem}.parametrizations.weight.original1")
    del weights[f"{stem}.parametrizations.weight.original0"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(JobFailedError, match=r"layers\.0\.conv.*choose the engine mindspore") as caught:
        MindnlpGenerator(folder)
    assert caught.value.type == "model-invalid"


def test_leaves_the_process_to_others() -> None:
    # In a process of its own, since what an import does is done once.
    script = """
import os, sys
os.environ.pop("HF_ENDPOINT", None)
import worker.engines.musicgen.backends.mindnlp.backend
assert "mindnlp" not in sys.modules and "mindspore" not in sys.modules
from huggingface_hub import constants
before = constants.ENDPOINT
worker.engines.musicgen.backends.mindnlp.patches.import_mindnlp()
import huggingface_hub
assert "HF_ENDPOINT" not in os.environ and huggingface_hub.constants.ENDPOINT == before
import logging
assert logging.getLogger().isEnabledFor(logging.WARNING)
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "tests/unit/worker/engines/knn/test_cells.py"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
