"""The catalogue of MusicGen models: the known models, the models' folders on this machine, and the folders' contents.

A model is a folder in the Hugging Face layout. This module does not use the network and does not read weights, because
a form needs the list of models each time that the form is shown.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from huggingface_hub import constants
from pydantic import ValidationError

from shared.kinds.musicgen.parameters import MusicgenParams
from shared.settings import KNOWN_MODELS, Settings
from shared.texts import Text, text

CONFIGURATION: Final = "config.json"
GENERATION: Final = "generation_config.json"
TOKENIZER: Final = "tokenizer.json"
WEIGHTS: Final = "model.safetensors"
WEIGHTS_INDEX: Final = f"{WEIGHTS}.index.json"
README: Final = "README.md"
TINY: Final = "mindjobs/tiny"

# The number of new tokens if a model suggests none. The published models suggest 1,500 positions, and the start token
# takes one of these positions.
_NEW_TOKENS: Final = 1_499
_FRONT_MATTER: Final = re.compile(r"\A---\r?\n(.*?)^---", re.DOTALL | re.MULTILINE)
_LICENCE: Final = re.compile(r"""^license:[ \t]*["']?([\w.+-]+)""", re.MULTILINE)
_LICENCE_URL: Final = re.compile(r"""^license_link:[ \t]*["']?(https?://[^\s"']+)""", re.MULTILINE)


@dataclass(frozen=True)
class GenerationDefaults:
    """The generation parameters that a model suggests."""

    do_sample: bool
    guidance_scale: float
    temperature: float
    top_k: int
    top_p: float
    max_new_tokens: int


class Availability(StrEnum):
    """Whether a job can use a model."""

    READY = "ready"
    DOWNLOADABLE = "downloadable"  # the first job that uses the model downloads it
    MISSING = "missing"


@dataclass(frozen=True)
class ModelCard:
    """The description of a model.

    Parameters
    ----------
    channels
        1 for mono, 2 for stereo.
    parameters
        Number of parameters of the decoder alone, which people usually give as the size of a MusicGen model; ``None``
        if unknown.
    note
        What a user should know before choosing the model.
    """

    name: str
    title: str
    state: Availability
    channels: int
    parameters: int | None
    defaults: GenerationDefaults
    licence: str
    licence_url: str | None
    note: Text | None


@dataclass(frozen=True)
class _Known:
    """The properties of a model that are known before the model's folder is on this machine."""

    title: str
    channels: int
    parameters: int
    licence: str = "CC-BY-NC-4.0"
    licence_url: str = "https://creativecommons.org/licenses/by-nc/4.0/"
    note: Text | None = None


_KNOWN: Final = {
    "facebook/musicgen-small": _Known("MusicGen small", 1, 419_584_000),
    "facebook/musicgen-medium": _Known("MusicGen medium", 1, 1_837_556_736),
    "facebook/musicgen-large": _Known("MusicGen large", 1, 3_255_382_016),
    "facebook/musicgen-stereo-small": _Known("MusicGen stereo small", 2, 436_365_312),
    "facebook/musicgen-stereo-medium": _Known("MusicGen stereo medium", 2, 1_862_728_704),
    "facebook/musicgen-stereo-large": _Known("MusicGen stereo large", 2, 3_288_944_640),
    TINY: _Known(
        "Tiny",
        1,
        1_180_800,
        licence="Apache-2.0",
        licence_url="https://www.apache.org/licenses/LICENSE-2.0",
        note=text("model-note-random"),
    ),
}


def is_allowed(settings: Settings, name: str) -> bool:
    """Return whether jobs may use a model.

    The built-in model and the models in ``MINDJOBS_MODELS_DIR`` are always allowed. About all other models
    ``MINDJOBS_MODELS_ALLOWED`` decides, even if they lie in Hugging Face's cache: other programs of this user fill
    the cache too, and what lies there was not put there for the users of this service.
    """
    listed = settings.allowed_models
    return (
        name == TINY
        or not listed.isdisjoint({"*", f"{name.partition('/')[0]}/*", name})
        or (KNOWN_MODELS in listed and name in _KNOWN)
        or (_is_name(name) and own_folder(settings, name) is not None)
    )


def get_published_channels(name: str) -> int | None:
    """Return the number of channels of a model of the catalogue; ``None`` for any other model."""
    return _KNOWN[name].channels if name in _KNOWN else None


def list_models(settings: Settings) -> list[ModelCard]:
    """List the allowed models: the known models, the other models in ``MINDJOBS_MODELS_DIR``, and the listed models.

    Models that only ``*`` or ``ORG/*`` in ``MINDJOBS_MODELS_ALLOWED`` allows are not listed. A folder that cannot be
    used is listed as missing, with the reason in its note.
    """
    known = [_describe_known(settings, name, known) for name, known in _KNOWN.items() if is_allowed(settings, name)]
    return [*known, *_list_own(settings), *_list_allowed(settings)]


def find_model(settings: Settings, name: str) -> Path | None:
    """Find the folder of a model.

    If ``MINDJOBS_MODELS_DIR`` contains a folder for the model, only this folder is used. Otherwise the built-in model
    has its own folder, and any other model is searched in the downloads of Hugging Face's libraries. An incomplete
    folder is not returned, so that an interrupted download is continued.

    Returns
    -------
    The folder; ``None`` if no folder is complete, for example because the model has to be built or downloaded first.
    """
    if not _is_name(name):
        return None
    own = own_folder(settings, name)
    if own is not None:
        folders = [own]
    elif name == TINY:
        folders = [builtin_folder(settings)]
    else:
        folders = _list_snapshots(name)
    return next((folder for folder in folders if find_missing_file(folder) is None), None)


def builtin_folder(settings: Settings) -> Path:
    """Return the folder of the built-in model, which may not exist yet."""
    return settings.home / "models" / TINY


def own_folder(settings: Settings, name: str) -> Path | None:
    """Return a model's folder in ``MINDJOBS_MODELS_DIR``, usable or not; ``None`` if there is no such folder.

    If this folder exists, no other folder is searched, since the operator wants this folder to be used.
    """
    folder = settings.models_dir / name if settings.models_dir is not None else None
    return folder.absolute() if folder is not None and os.access(folder, os.F_OK) else None


def find_missing_file(folder: Path) -> Path | None:
    """Return a file that is missing in a model's folder or cannot be read; ``None`` if the folder is complete."""
    needed = [CONFIGURATION, TOKENIZER]
    if not _is_readable(folder / WEIGHTS):
        needed += _list_shards(folder) or [WEIGHTS]
    return next((folder / name for name in needed if not _is_readable(folder / name)), None)


def _note_missing(path: Path) -> Text:
    return text("model-note-missing-file", path=str(path))


def _describe_known(settings: Settings, name: str, known: _Known) -> ModelCard:
    folder = find_model(settings, name)
    own = own_folder(settings, name)
    missing = find_missing_file(own) if own is not None else None
    if folder is not None or (name == TINY and missing is None):
        state = Availability.READY
    elif missing is not None or constants.HF_HUB_OFFLINE:
        state = Availability.MISSING
    else:
        state = Availability.DOWNLOADABLE
    return ModelCard(
        name=name,
        title=known.title,
        state=state,
        channels=known.channels,
        parameters=known.parameters,
        defaults=_read_defaults(folder),
        licence=known.licence,
        licence_url=known.licence_url,
        note=_note_missing(missing) if missing is not None else known.note,
    )


def _list_own(settings: Settings) -> Iterator[ModelCard]:
    """Describe the models in ``MINDJOBS_MODELS_DIR`` that are not among the known models."""
    if settings.models_dir is None:
        return
    for path in sorted(settings.models_dir.glob(f"*/*/{CONFIGURATION}")):
        folder = path.parent.absolute()
        name = f"{folder.parent.name}/{folder.name}"
        config = _read_json(path)
        if name in _KNOWN or not _is_name(name) or (config is not None and config.get("model_type") != "musicgen"):
            continue
        missing = path if config is None else find_missing_file(folder)
        state = Availability.READY if missing is None else Availability.MISSING
        yield _describe_other(name, folder, state, None if missing is None else _note_missing(missing))


def _list_allowed(settings: Settings) -> Iterator[ModelCard]:
    """Describe the models that ``MINDJOBS_MODELS_ALLOWED`` names, except the known models and the operator's own."""
    for name in sorted(settings.allowed_models):
        if "*" in name or name == KNOWN_MODELS or name in _KNOWN or own_folder(settings, name) is not None:
            continue
        folder = find_model(settings, name)
        absent = Availability.MISSING if constants.HF_HUB_OFFLINE else Availability.DOWNLOADABLE
        yield _describe_other(name, folder, absent if folder is None else Availability.READY, note=None)


def _describe_other(name: str, folder: Path | None, state: Availability, note: Text | None) -> ModelCard:
    """Describe a model that is not among the known models, from the files in its folder."""
    licence, licence_url = ("unknown", None) if folder is None else _read_licence(folder)
    return ModelCard(
        name=name,
        title=name,
        state=state,
        channels=_read_channels((_read_json(folder / CONFIGURATION) if folder is not None else None) or {}),
        parameters=None,
        defaults=_read_defaults(folder),
        licence=licence,
        licence_url=licence_url,
        note=note,
    )


def _list_snapshots(name: str) -> list[Path]:
    """List the revisions of a model in Hugging Face's cache: the current revision, then the others, newest first."""
    repository = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    try:
        current = (repository / "refs" / constants.DEFAULT_REVISION).read_text().strip()
    except (OSError, ValueError):
        current = ""
    try:
        dated = [(path.name == current, path.stat().st_mtime, path) for path in (repository / "snapshots").iterdir()]
    except OSError:
        return []
    return [path for _, _, path in sorted(dated, reverse=True)]


def _list_shards(folder: Path) -> list[str]:
    """List the shards of the weights in a folder; the list is empty if the folder has no index."""
    shards = (_read_json(folder / WEIGHTS_INDEX) or {}).get("weight_map")
    return sorted({str(shard) for shard in shards.values()}) if isinstance(shards, dict) else []


def _read_defaults(folder: Path | None) -> GenerationDefaults:
    """Read a model's own defaults. A missing or invalid default is replaced by the default of the schema."""
    stored = (_read_json(folder / GENERATION) if folder is not None else None) or {}
    if "max_new_tokens" not in stored and isinstance(stored.get("max_length"), int):
        stored["max_new_tokens"] = stored["max_length"] - 1  # max_length includes the start token
    accepted = MusicgenParams.model_validate(_select_valid(stored))
    return GenerationDefaults(
        do_sample=accepted.do_sample,
        guidance_scale=accepted.guidance_scale,
        temperature=accepted.temperature,
        top_k=accepted.top_k,
        top_p=accepted.top_p,
        max_new_tokens=accepted.max_new_tokens or _NEW_TOKENS,
    )


def _select_valid(stored: dict[str, Any]) -> dict[str, Any]:
    names = GenerationDefaults.__dataclass_fields__.keys() & stored.keys()
    return {name: stored[name] for name in names if _is_valid(name, stored[name])}


def _is_name(name: str) -> bool:
    return _is_valid("model", name)


def _is_valid(field: str, value: object) -> bool:
    """Return whether a field of a job's parameters may have this value."""
    try:
        MusicgenParams.model_validate({field: value})
    except ValidationError:
        return False
    return True


def _read_channels(config: dict[str, Any]) -> int:
    decoder = config.get("decoder")
    return 2 if isinstance(decoder, dict) and decoder.get("audio_channels") == 2 else 1  # noqa: PLR2004 - stereo


def _read_licence(folder: Path) -> tuple[str, str | None]:
    """Read the licence and its address from the front matter of a model's README."""
    try:
        head = _FRONT_MATTER.search((folder / README).read_text(errors="replace"))
    except OSError:
        head = None
    licence, url = (pattern.search(head[1]) if head else None for pattern in (_LICENCE, _LICENCE_URL))
    return licence[1] if licence else "unknown", url[1] if url else None


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _is_readable(path: Path) -> bool:
    return os.access(path, os.R_OK)
