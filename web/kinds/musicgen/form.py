"""The form of a musicgen job."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, Self

from wtforms import BooleanField, MultipleFileField, SelectField, StringField, TextAreaField

from shared.audio.facts import AudioFacts
from shared.database import inspections, worker_queries
from shared.database.tables import Upload
from shared.inspection.upload_kinds import UploadKind
from shared.jobs import AUTO, Kind
from shared.kinds.musicgen.catalogue import Availability, ModelCard, list_models
from shared.kinds.musicgen.parameters import DEFAULT_DURATION_S, Format, Loudness, MusicgenParams, Precision
from shared.services import Services
from shared.texts import render
from web.auth import get_owner
from web.kinds.job_form import FILE_FIELD, JobForm, read_number

_CLIP_FIELDS: Final = ("start_s", "end_s")
_NUMBER_FIELDS: Final = (
    "num_samples",
    "duration_s",
    "max_new_tokens",
    "guidance_scale",
    "temperature",
    "top_k",
    "top_p",
    "seed",
    "sample_rate",
)
FORMAT_TITLES: Final[Mapping[Format, str]] = {
    Format.WAV: "WAV, 32-bit float: cuts nothing off",
    Format.WAV16: "WAV, 16-bit",
    Format.FLAC: "FLAC, 24-bit",
    Format.MP3: "MP3",
    Format.OGG: "Ogg Vorbis",
}
_CHOICE_FIELDS: Final = ("model", "precision", "format", "loudness")
# For each field, the meaning of an empty value.
PLACEHOLDERS: Final[Mapping[str, str]] = {
    **{
        name: f"{MusicgenParams.model_fields[name].default:g}"
        for name in ("num_samples", "guidance_scale", "temperature", "top_k", "top_p")
    },
    "duration_s": f"{DEFAULT_DURATION_S:g}",
    "seed": "random",
    "start_s": "start of the file",
    "end_s": "end of the file",
}


def _get_default(name: str) -> str:
    return str(MusicgenParams.model_fields[name].default)


class MusicgenForm(JobForm):
    """The form of a musicgen job: one prompt per line, and clips to continue.

    An empty number field means that the default of the parameter is used.
    """

    KIND = Kind.MUSICGEN

    model = SelectField("Model", default=_get_default("model"), choices=[])
    prompts = TextAreaField("Prompts, one per line", description="No prompt: unconditional generation.")
    num_samples = StringField("Samples per prompt")
    duration_s = StringField("Duration in seconds")
    file = MultipleFileField(
        "Audio files",
        description="If there is a single file, all prompts use it. If there are several, each prompt uses a file of "
        "its own, in the order of the file names.",
    )
    start_s = StringField("Start of the clip, in seconds", description="Where the part to continue begins.")
    end_s = StringField("End of the clip, in seconds", description="Where it ends, and the new music begins.")
    do_sample = BooleanField("Sample tokens at random", default=True, description="Off: always the most likely token.")
    guidance_scale = StringField("Guidance scale", description="How closely the music follows the prompt.")
    temperature = StringField("Temperature", description="Above 1: more varied. Below 1: more predictable.")
    top_k = StringField("Top k", description="Sample from this many of the most likely tokens; 0 means all.")
    top_p = StringField("Top p", description="Sample from the most likely tokens up to this total probability.")
    max_new_tokens = StringField("Duration in tokens", description="Instead of seconds: 50 tokens are one second.")
    seed = StringField("Seed", description="The same seed and parameters generate the same music.")
    format = SelectField("Format", choices=FORMAT_TITLES, default=_get_default("format"))
    sample_rate = SelectField(
        "Sampling rate", choices={"": "that of the model", "44100": "44.1 kHz", "48000": "48 kHz"}, default=""
    )
    loudness = SelectField(
        "Loudness",
        choices=[*Loudness],
        default=_get_default("loudness"),
        description="If none is chosen, the model's output is not changed.",
    )
    precision = SelectField(
        "Precision",
        choices=[*Precision],
        default=_get_default("precision"),
        description="If auto is chosen, the backend uses its default.",
    )

    def build_body(self) -> dict[str, Any]:
        """Build the body of the API request.

        If the value of a number field is not a number, it stays a text, and the schema refuses it.
        """
        texts = self.texts
        prompts = list(self._number_prompts().values())
        params: dict[str, Any] = {
            "prompts": prompts,
            "audio_prompts": self._list_clips(len(prompts)),
            "do_sample": bool(self.do_sample.data),
            **{name: texts[name] for name in _CHOICE_FIELDS if texts[name]},
            **self._read_numbers(_NUMBER_FIELDS),
        }
        return {"kind": self.KIND, "params": params, "device": texts["device"]}

    @classmethod
    def make_blank(cls, services: Services) -> Self:
        """Make a blank form.

        The form selects the API's default model. If jobs cannot use this model, the form selects the first model that
        jobs can use, if there is such a model.
        """
        form = cls(formdata=None)
        usable = [card.name for card in list_models(services.settings) if card.state is not Availability.MISSING]
        if usable and form.model.data not in usable:
            form.model.data = usable[0]
        return form

    def prepare(self, services: Services) -> dict[str, Any]:
        """Fill in the choices, defaults and placeholders of the fields, and return the models' licences and notes."""
        cards = list_models(services.settings)
        self.model.choices = {card.name: f"{card.title} · {card.state}" for card in cards}
        self.precision.choices = _list_precisions(services)
        for name, default in _describe_defaults(cards).items():
            field = self._fields[name]
            field.description = f"{field.description} Default of the model: {default}.".strip()
        for name, meaning in PLACEHOLDERS.items():
            self._fields[name].render_kw = {"placeholder": meaning}
        notes = {card.title: render(card.note) for card in cards if card.note}
        return {"licences": _group_licences(cards), "notes": notes, "found": self._describe_uploads(services)}

    def _describe_uploads(self, services: Services) -> dict[str, list[str]]:
        """Describe what was found in each clip, keyed by upload id: a line of facts, then the warnings."""
        with services.database.reading() as session:
            rows = inspections.find_with_facts(session, [upload.id for upload in self.uploads], get_owner())
        facts = {row.id: AudioFacts.model_validate(row.facts) for row in rows.values() if row.facts and _is_audio(row)}
        return {upload_id: [_describe_sound(each), *map(render, each.warnings)] for upload_id, each in facts.items()}

    def _list_clips(self, prompt_count: int) -> list[dict[str, Any]]:
        """List the clips for the body of the API request. A single file is listed once for each prompt."""
        part = self._read_numbers(_CLIP_FIELDS)
        if not self.uploads and part:
            return [part]  # the schema then reports at the file field that the upload is missing
        clips = [{"upload": upload.id, **part} for upload in self.uploads]
        return clips * max(1, prompt_count) if len(clips) == 1 else clips

    def _read_numbers(self, names: Sequence[str]) -> dict[str, Any]:
        texts = self.texts
        return {name: read_number(texts[name]) for name in names if texts[name].strip()}

    def _number_prompts(self) -> dict[int, str]:
        """Return the prompts, keyed by line number from 1; blank lines are left out."""
        lines = re.split(r"\r\n|\r|\n", self.texts["prompts"])
        return {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}

    def _find_field(self, parts: list[str]) -> tuple[str, str]:
        match parts:
            case ["params", "prompts", index]:
                return "prompts", f"line {list(self._number_prompts())[int(index)]}: "
            case ["params", "audio_prompts", index, *names]:
                prefix = f"clip {int(index) + 1}: " if len(self.uploads) > 1 else ""
                return names[-1] if names and names[-1] in _CLIP_FIELDS else FILE_FIELD, prefix
            case ["params", "audio_prompts"]:
                return FILE_FIELD, ""
        return parts[-1] if parts else "", ""


def _list_precisions(services: Services) -> list[Precision]:
    """List ``auto`` and the precisions that live workers offer; list all precisions if the offers are not known."""
    with services.database.reading() as session:
        offered = worker_queries.list_offered_precisions(session, Kind.MUSICGEN, AUTO)
    return [precision for precision in Precision if not offered or precision in {Precision.AUTO, *offered}]


def _is_audio(upload: Upload) -> bool:
    return upload.kind == UploadKind.AUDIO


def _describe_sound(facts: AudioFacts) -> str:
    channels = {1: "mono", 2: "stereo"}.get(facts.channels, f"{facts.channels} channels")
    return f"{facts.duration_s:.2f} s, {facts.rate} Hz, {channels}, {facts.codec} in {facts.format}"


def _group_licences(cards: Iterable[ModelCard]) -> dict[tuple[str, str | None], list[str]]:
    """Return the titles of the models under each licence, keyed by the name and the address of the licence."""
    groups: dict[tuple[str, str | None], list[str]] = {}
    for card in cards:
        groups.setdefault((card.licence, card.licence_url), []).append(card.title)
    return groups


def _describe_defaults(cards: Sequence[ModelCard]) -> dict[str, str]:
    """Describe the default of each parameter, keyed by the name of the parameter.

    A description begins with the default of most models. Every other default follows, with the models that have it.
    """
    described: dict[str, str] = {}
    for name in asdict(cards[0].defaults) if cards else ():
        titles: dict[str, list[str]] = {}
        for card in cards:
            titles.setdefault(_format(getattr(card.defaults, name)), []).append(card.title)
        usual, *others = sorted(titles, key=lambda value: -len(titles[value]))
        exceptions = "; ".join(f"{value} for {' and '.join(titles[value])}" for value in others)
        described[name] = f"{usual} ({exceptions})" if exceptions else usual
    return described


def _format(value: float) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}"
