"""From the words of a command line to a job's parameters."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Params = dict[str, Any]
StoreFile = Callable[[str], str]


class ArgumentsError(ValueError):
    """A word on the command line cannot be followed."""


@dataclass(frozen=True)
class JobArguments:
    """The parameters of a job, as somebody types them.

    Parameters
    ----------
    params
        A JSON object, or ``@`` and the file that it is in.
    settings
        ``NAME=VALUE`` each, which win over all others.
    prompts
        Texts to make music from.
    clips
        Paths of audio files to continue.
    csv
        Path of a table to evaluate.
    label_column
        The column to predict.
    """

    params: str | None = None
    settings: Sequence[str] = ()
    prompts: Sequence[str] = ()
    clips: Sequence[str] = ()
    csv: str | None = None
    label_column: str | None = None

    def write(self, store: StoreFile) -> Params:
        """Write the parameters as the API reads them.

        Parameters
        ----------
        store
            Stores a file with the service and returns its id.

        Raises
        ------
        ArgumentsError
            Something in them is no JSON object or no ``NAME=VALUE``.
        """
        params = _read_object(self.params) if self.params is not None else {}
        settings = [split_pair(setting) for setting in self.settings]
        if self.prompts:
            params["prompts"] = list(self.prompts)
        if self.clips:
            params["audio_prompts"] = [{"upload": store(path)} for path in self.clips]
        if self.csv is not None:
            params["dataset"] = {"upload": store(self.csv)}
        if self.label_column is not None:
            _put(params, "dataset.label", read_value(self.label_column))
        for name, value in settings:
            _put(params, name, read_value(value))
        return params


def split_pair(text: str) -> tuple[str, str]:
    """Split ``NAME=VALUE``.

    Raises
    ------
    ArgumentsError
        It is none.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentsError(f"{text!r} is not of the form NAME=VALUE, k=5 for example")
    return name, value


def read_value(text: str) -> object:
    """Read JSON, or what is none as the text that it is."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is Python's, and no JSON")


def _read_object(text: str) -> Params:
    content = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
    params = read_value(content)
    if not isinstance(params, dict):
        raise ArgumentsError(f'--params {text}: is no JSON object, such as {{"k": 5}}')
    return params


def _put(params: Params, name: str, value: object) -> None:
    """Put a value where a dotted name says: ``evaluation.folds``, or ``audio_prompts.0.end_s`` in a list."""
    *way, last = name.split(".")
    place: Any = params
    try:
        for part in way:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[int(last) if isinstance(place, list) else last] = value
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ArgumentsError(f"-p {name}: there is no such place in the parameters {json.dumps(params)}") from error
