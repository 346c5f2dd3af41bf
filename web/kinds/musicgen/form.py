"""The form of a musicgen job."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, Self

from wtforms import BooleanField, MultipleFileField, SelectField, StringField, TextAreaField

from shared.jobs import Kind
from shared.kinds.musicgen.catalogue import Availability, ModelCard, list_models
from shared.kinds.musicgen.parameters import DEFAULT_DURATION_S, Format, Loudness, MusicgenParams, Precision
from shared.settings import Settings
from web.pages.forms import FILE, JobForm, read_number

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
    "duration_s": f"{DEFAULT_DURATION_S:g}",
    "seed": "drawn",
    "start_s": "its start",
    "end_s": "its end",
}


def _default(name: str) -> str:
    return str(MusicgenParams.model_fields[name].default)


class MusicgenForm(JobForm):
    """What to play: one prompt a line, and clips to continue. An empty number means the default."""

    KIND = Kind.MUSICGEN

    model = SelectField("Model", default=_default("model"), choices=[])
    prompts = TextAreaField("Prompts, one a line", description="None, for music out of nothing.")
    num_samples = StringField("Samples of each prompt")
    duration_s = StringField("Length in seconds")
    file = MultipleFileField(
        "Audio files",
        description="One is used for every prompt; of several, each prompt gets its own, in the order of their names.",
    )
    start_s = StringField("Continue from, in seconds", description="Where the part that is continued begins.")
    end_s = StringField("Up to, in seconds", description="Where it ends; the music goes on from there.")
    do_sample = BooleanField("Draw tokens at random", default=True, description="Off: always the likeliest.")
    guidance_scale = StringField("Guidance", description="How closely to follow the prompt.")
    temperature = StringField("Temperature", description="Above 1 more adventurous, below 1 tamer.")
    top_k = StringField("Top k", description="Draw from so many tokens; 0 for all.")
    top_p = StringField("Top p", description="Draw from this share of the probability.")
    max_new_tokens = StringField("Length in tokens", description="Instead of seconds; 50 a second.")
    seed = StringField("Seed", description="The same seed and parameters give the same music.")
    format = SelectField("Format", choices=[*Format], default=_default("format"))
    loudness = SelectField(
        "Loudness",
        choices=[*Loudness],
        default=_default("loudness"),
        description="none leaves the model's output as it is.",
    )
    precision = SelectField(
        "Precision",
        choices=[*Precision],
        default=_default("precision"),
        description="auto takes the best of the engine.",
    )

    def build_body(self) -> dict[str, Any]:
        """See ``JobForm``."""
        texts = self.texts
        prompts = list(self._number_lines().values())
        params: dict[str, Any] = {
            "prompts": prompts,
            "audio_prompts": self._list_clips(len(prompts)),
            "do_sample": bool(self.do_sample.data),
            **{name: texts[name] for name in _WORDS if texts[name]},
            **self._read_numbers(_NUMBERS),
        }
        return {"kind": self.KIND, "params": params, "device": texts["device"]}

    @classmethod
    def make_blank(cls, settings: Settings) -> Self:
        """See ``JobForm``: with a model that can run, where the API's default cannot."""
        form = cls(formdata=None)
        usable = [card.name for card in list_models(settings) if card.state is not Availability.MISSING]
        if usable and form.model.data not in usable:
            form.model.data = usable[0]
        return form

    def list_notes(self, settings: Settings) -> dict[str, Any]:
        """See ``JobForm``: the models, their licences and defaults, and what empty fields mean."""
        cards = list_models(settings)
        self.model.choices = {card.name: f"{card.title} · {card.state}" for card in cards}
        defaults = _describe_defaults(cards)
        for name, default in defaults.items():
            field = self._fields[name]
            field.description = f"{field.description} The model's default: {default}.".strip()
        for name, meaning in EMPTY.items():
            self._fields[name].render_kw = {"placeholder": meaning}
        return {"models": cards, "licences": _group_licences(cards)}

    def _list_clips(self, rows: int) -> list[dict[str, Any]]:
        """Write the clips; a single one is every prompt's."""
        part = self._read_numbers(_CLIP)
        if not self.kept and part:
            return [part]  # a part of nothing: the schema says at the file that it is missing
        clips = [{"upload": upload.id, **part} for upload in self.kept]
        return clips * max(1, rows) if len(clips) == 1 else clips

    def _read_numbers(self, names: Sequence[str]) -> dict[str, Any]:
        texts = self.texts
        return {name: read_number(texts[name]) for name in names if texts[name].strip()}

    def _number_lines(self) -> dict[int, str]:
        """Return line number, from 1, to prompt; lines with nothing on them are no prompts."""
        lines = re.split(r"\r\n|\r|\n", self.texts["prompts"])
        return {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}

    def _place(self, parts: list[str]) -> tuple[str, str]:
        match parts:
            case ["params", "prompts", index]:
                return "prompts", f"line {list(self._number_lines())[int(index)]}: "
            case ["params", "audio_prompts", index, *names]:
                which = f"clip {int(index) + 1}: " if len(self.kept) > 1 else ""
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
