"""Builds the parameters of a job from command-line arguments."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Params = dict[str, Any]
UploadFile = Callable[[str], str]


class ArgumentsError(ValueError):
    """A command-line argument is not valid."""


@dataclass(frozen=True)
class JobArguments:
    """The parameters of a job as they are typed on a command line.

    Parameters
    ----------
    params
        A JSON object, or ``@`` followed by the path of a file that contains a JSON object.
    settings
        Single parameters in the form ``NAME=VALUE``; they override all other arguments.
    prompts
        Descriptions of the music.
    clips
        Paths of audio files to continue.
    csv
        Path of a table to evaluate.
    label_column
        The column of the table that is predicted; as suggested by the service if None.
    exclude
        The columns of the table that are left out; as suggested by the service if empty.
    """

    params: str | None = None
    settings: Sequence[str] = ()
    prompts: Sequence[str] = ()
    clips: Sequence[str] = ()
    csv: str | None = None
    label_column: str | None = None
    exclude: Sequence[str] = ()

    def build(self, upload: UploadFile) -> Params:
        """Build the parameters in the form of the API.

        Parameters
        ----------
        upload
            Uploads a file and returns its id.

        Raises
        ------
        ArgumentsError
            ``params`` is not a JSON object, or an item of ``settings`` does not have the form ``NAME=VALUE`` or names a
            field that cannot be set.
        """
        params = _parse_object(self.params) if self.params is not None else {}
        settings = [split_pair(setting) for setting in self.settings]
        if self.prompts:
            params["prompts"] = list(self.prompts)
        if self.clips:
            params["audio_prompts"] = [{"upload": upload(path)} for path in self.clips]
        if self.csv is not None:
            params["dataset"] = {"upload": upload(self.csv)}
        if self.label_column is not None:
            _set(params, "dataset.label", parse_value(self.label_column))
        if self.exclude:
            _set(params, "dataset.exclude", [parse_value(column) for column in self.exclude])
        for name, value in settings:
            _set(params, name, parse_value(value))
        return params


def split_pair(text: str) -> tuple[str, str]:
    """Split ``NAME=VALUE``.

    Raises
    ------
    ArgumentsError
        The text does not have the form ``NAME=VALUE``.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentsError(f"{text!r} is not of the form NAME=VALUE, for example k=5")
    return name, value


def parse_value(text: str) -> object:
    """Parse a text as JSON; a text that is not JSON is returned unchanged."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _parse_object(text: str) -> Params:
    content = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
    params = parse_value(content)
    if not isinstance(params, dict):
        raise ArgumentsError(f'--params {text}: is not a JSON object such as {{"k": 5}}')
    return params


def _set(params: Params, name: str, value: object) -> None:
    """Set the field that a dotted name such as ``evaluation.folds`` names.

    A part of the name may be an index in a list, as in ``audio_prompts.0.end_s``.
    """
    *parents, last = name.split(".")
    target: Any = params
    try:
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
        target[int(last) if isinstance(target, list) else last] = value
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ArgumentsError(f"-p {name}: the parameters {json.dumps(params)} have no such field") from error
