"""From the words of the client's command line to parameters."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.client.arguments import ArgumentsError, JobArguments, parse_value, split_pair
from shared.database.migrate import ROOT


def write(order: JobArguments) -> dict[str, object]:
    return order.build(lambda path: f"id of {path}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("true", True),
        ("[1, 3]", [1, 3]),
        ("zscore", "zscore"),
        ('"5"', "5"),
        ("NaN", "NaN"),
        ("", ""),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_value_is_json_where_it_is_some(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_a_table_and_its_label_make_the_data_set() -> None:
    order = JobArguments(csv="t.csv", label_column="species", settings=["k=[1, 3]", "dataset.header=false"])
    assert write(order) == {"dataset": {"upload": "id of t.csv", "label": "species", "header": False}, "k": [1, 3]}


def test_prompts_and_clips_are_parameters_and_settings_reach_into_them() -> None:
    order = JobArguments(prompts=["a", "b"], clips=["1.wav", "2.wav"], settings=["audio_prompts.1.end_s=5", "top_k=0"])
    assert write(order) == {
        "prompts": ["a", "b"],
        "audio_prompts": [{"upload": "id of 1.wav"}, {"upload": "id of 2.wav", "end_s": 5}],
        "top_k": 0,
    }


def test_settings_win_over_the_object(tmp_path: Path) -> None:
    file = tmp_path / "params.json"
    file.write_text('{"k": 3, "evaluation": {"method": "kfold", "folds": 5}}')
    order = JobArguments(params=f"@{file}", settings=["k=7", "evaluation.folds=9", "metric=hamming"])
    assert write(order) == {"k": 7, "evaluation": {"method": "kfold", "folds": 9}, "metric": "hamming"}


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (JobArguments(settings=["k"]), "'k' is not of the form NAME=VALUE"),
        (JobArguments(settings=["=5"]), "'=5' is not of the form NAME=VALUE"),
        (JobArguments(params="[1]"), "is not a JSON object"),
        (JobArguments(params="{"), "is not a JSON object"),
        (JobArguments(settings=["k=5", "k.folds=5"]), "have no such field"),
        (
            JobArguments(clips=["a"], settings=["audio_prompts.1.end_s=5"]),
            "-p audio_prompts.1.end_s: the parameters",
        ),
        (
            JobArguments(clips=["a"], settings=["audio_prompts.first=5"]),
            "-p audio_prompts.first: the parameters",
        ),
    ],
)
def test_what_makes_no_sense_is_named(order: JobArguments, words: str) -> None:
    with pytest.raises(ArgumentsError) as caught:
        write(order)
    assert words in str(caught.value)


def test_nothing_is_stored_for_a_setting_that_makes_no_sense() -> None:
    stored: list[str] = []
    with pytest.raises(ArgumentsError):
        JobArguments(csv="t.csv", settings=["nonsense"]).build(lambda path: stored.append(path) or "id")  # type: ignore[func-returns-value]  # it returns None
    assert stored == []


def test_a_pair_may_have_more_equals() -> None:
    assert split_pair("a=b=c") == ("a", "b=c")


@pytest.mark.slow
def test_the_client_loads_nothing_heavy() -> None:
    heavy = {"sqlalchemy", "celery", "kombu", "redis", "numpy", "flask", "mindspore", "pydantic_settings"}
    code = f"import sys, shared.client.__main__; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
