"""The client builds the parameters of a job from command-line arguments."""

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
def test_value_is_parsed_as_json_or_kept_as_text_if_it_is_not_json(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_csv_file_and_columns_become_the_data_set() -> None:
    order = JobArguments(
        csv="t.csv", label_column="species", exclude=["0", "island"], settings=["k=[1, 3]", "dataset.header=false"]
    )
    assert write(order) == {
        "dataset": {"upload": "id of t.csv", "label": "species", "exclude": [0, "island"], "header": False},
        "k": [1, 3],
    }


def test_prompts_and_clips_become_parameters_that_settings_can_change() -> None:
    order = JobArguments(prompts=["a", "b"], clips=["1.wav", "2.wav"], settings=["audio_prompts.1.end_s=5", "top_k=0"])
    assert write(order) == {
        "prompts": ["a", "b"],
        "audio_prompts": [{"upload": "id of 1.wav"}, {"upload": "id of 2.wav", "end_s": 5}],
        "top_k": 0,
    }


def test_settings_override_the_params_object(tmp_path: Path) -> None:
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
def test_invalid_argument_is_named_in_the_error(order: JobArguments, words: str) -> None:
    with pytest.raises(ArgumentsError) as caught:
        write(order)
    assert words in str(caught.value)


def test_no_file_is_uploaded_if_a_setting_is_invalid() -> None:
    stored: list[str] = []
    with pytest.raises(ArgumentsError):
        JobArguments(csv="t.csv", settings=["nonsense"]).build(lambda path: stored.append(path) or "id")  # type: ignore[func-returns-value]  # append returns None
    assert stored == []


def test_value_of_a_pair_may_contain_equals_signs() -> None:
    assert split_pair("a=b=c") == ("a", "b=c")


@pytest.mark.slow
def test_client_imports_no_heavy_packages() -> None:
    heavy = {"sqlalchemy", "celery", "kombu", "redis", "numpy", "flask", "mindspore", "pydantic_settings"}
    code = f"import sys, shared.client.__main__; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
