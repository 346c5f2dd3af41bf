"""The form of a musicgen job."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Final, Self

from shared.jobs import Kind
from shared.models import Availability, ModelCard, list_models
from shared.schemas.musicgen import DURATION_S, Format, Loudness, MusicgenParams, Precision
from shared.settings import Settings
from web.pages.forms import DEVICES, FILE, Form, read_number

_CLIP: Final = ("start_s", "end_s")
_NUMBERS: Final = (
    "num_samples",
    "duration_s",
    "max_new_tokens",
    "guidance_scale",
    "temperature",
    "top_k",
    "top_p",
    "seed",
)
_WORDS: Final = ("model", "precision", "format", "loudness")
# Field to what it means when it is left empty.
EMPTY: Final[Mapping[str, str]] = {
    **{
        name: f"{MusicgenParams.model_fields[name].default:g}"
        for name in ("num_samples", "guidance_scale", "temperature", "top_k", "top_p")
    },
    "duration_s": f"{DURATION_S:g}",
    "seed": "drawn",
    "start_s": "its start",
    "end_s": "its end",
}


class MusicgenForm(Form):
    """What to play: one prompt a line, and clips to continue. An empty number means the default."""

    CHOICES: ClassVar = {
        "precision": list(Precision),
        "format": list(Format),
        "loudness": list(Loudness),
        "device": DEVICES,
    }
    DEFAULTS: ClassVar = {
        **dict.fromkeys((*_NUMBERS, *_CLIP, "prompts"), ""),
        **{name: str(MusicgenParams.model_fields[name].default) for name in _WORDS},
        "do_sample": "on",
        "device": "auto",
    }
    SWITCHES = frozenset({"do_sample"})

    def write_body(self) -> dict[str, Any]:
        """See ``Form``."""
        fields = self.fields
        prompts = list(self._number_lines().values())
        params: dict[str, Any] = {
            "prompts": prompts,
            "audio_prompts": self._list_clips(len(prompts)),
            "do_sample": "do_sample" in fields,
            **{name: fields[name] for name in _WORDS if fields[name]},
            **self._read_numbers(_NUMBERS),
        }
        return {"kind": Kind.MUSICGEN, "params": params, "device": fields["device"]}

    @classmethod
    def make_untouched(cls, settings: Settings) -> Self:
        """See ``Form``: with a model that can run, where the API's default cannot."""
        default = cls.DEFAULTS["model"]
        usable = [card.name for card in list_models(settings) if card.state is not Availability.MISSING]
        model = default if default in usable or not usable else usable[0]
        return cls({**cls.DEFAULTS, "model": model})

    def list_notes(self, settings: Settings) -> dict[str, Any]:
        """See ``Form``: the models, their licences and defaults, and what empty fields mean."""
        cards = list_models(settings)
        return {
            "models": cards,
            "licences": _group_licences(cards),
            "defaults": _describe_defaults(cards),
            "empty": EMPTY,
        }

    def _list_clips(self, rows: int) -> list[dict[str, Any]]:
        """Write the clips; a single one is every prompt's."""
        part = self._read_numbers(_CLIP)
        if not self.uploads and part:
            return [part]  # a part of nothing: the schema says at the file that it is missing
        clips = [{"upload": upload, **part} for upload in self.uploads]
        return clips * max(1, rows) if len(clips) == 1 else clips

    def _read_numbers(self, names: Sequence[str]) -> dict[str, Any]:
        return {name: read_number(self.fields[name]) for name in names if self.fields[name].strip()}

    def _number_lines(self) -> dict[int, str]:
        """Return line number, from 1, to prompt; lines with nothing on them are no prompts."""
        lines = re.split(r"\r\n|\r|\n", self.fields["prompts"])
        return {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}

    def _place(self, parts: list[str]) -> tuple[str, str]:
        match parts:
            case ["params", "prompts", index]:
                return "prompts", f"line {list(self._number_lines())[int(index)]}: "
            case ["params", "audio_prompts", index, *names]:
                which = f"clip {int(index) + 1}: " if len(self.uploads) > 1 else ""
                return names[-1] if names and names[-1] in _CLIP else FILE, which
            case ["params", "audio_prompts"]:
                return FILE, ""
        return parts[-1] if parts else "", ""


def _group_licences(cards: Iterable[ModelCard]) -> dict[tuple[str, str | None], list[str]]:
    """Return licence and its address to the titles of the models under it."""
    groups: dict[tuple[str, str | None], list[str]] = {}
    for card in cards:
        groups.setdefault((card.licence, card.licence_url), []).append(card.title)
    return groups


def _describe_defaults(cards: Sequence[ModelCard]) -> dict[str, str]:
    """Return parameter to the models' own default: that of most of them first, then who differs."""
    described: dict[str, str] = {}
    for name in asdict(cards[0].defaults) if cards else ():
        titles: dict[str, list[str]] = {}
        for card in cards:
            titles.setdefault(_write(getattr(card.defaults, name)), []).append(card.title)
        usual, *others = sorted(titles, key=lambda value: -len(titles[value]))
        described[name] = ", ".join([usual, *(f"for {' and '.join(titles[value])} {value}" for value in others)])
    return described


def _write(value: float) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}"
