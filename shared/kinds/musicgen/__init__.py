"""Music generation: parameters, results, the catalogue of models, and audio formats."""

import re
from collections.abc import Mapping
from typing import Any, Final

from shared.audio.facts import AudioFacts
from shared.errors import RequestInvalidError
from shared.files.download_names import make_name
from shared.inspection.upload_kinds import UploadKind
from shared.kinds.musicgen.parameters import PRECISIONS, MusicgenParams, Precision
from shared.kinds.musicgen.result import MusicgenResult
from shared.kinds.musicgen.seeds import draw_seed, renew_seed, repeat_seed
from shared.kinds.spec import Inspections, KindSpec, OwnerLimit
from shared.settings import Settings
from shared.texts import render_stored, text

_ARTIFACT: Final = re.compile(r"(?P<what>[a-z]+)-(?P<number>\d{1,6})\.(?P<extension>[a-z0-9]+)", re.ASCII)
"""The name of an artifact of a sample, for example ``audio-0.wav``."""


def _list_uploads(params: MusicgenParams) -> dict[str, str]:
    return {f"/params/audio_prompts/{index}/upload": clip.upload for index, clip in enumerate(params.audio_prompts)}


def _resolve(params: MusicgenParams, inspections: Inspections, settings: Settings) -> MusicgenParams:
    # These modules import `parameters` from this package, so they cannot be imported before this package is.
    from shared.kinds.musicgen.catalogue import is_allowed  # noqa: PLC0415
    from shared.kinds.musicgen.judgement import find_problems  # noqa: PLC0415
    from shared.kinds.musicgen.lengths import find_amount_problems  # noqa: PLC0415
    from shared.kinds.musicgen.model_figures import find_figures  # noqa: PLC0415

    if not is_allowed(settings, params.model):
        raise RequestInvalidError.at("/params/model", text("model-not-allowed", model=params.model))
    # Uploads of an earlier version may have no facts.
    facts = {upload: AudioFacts.model_validate(found) for upload, found in inspections.items() if found}
    problems = [
        *find_amount_problems(params, settings.max_job_music_s),
        *find_problems(params, facts, find_figures(settings, params.model)),
    ]
    if problems:
        raise RequestInvalidError(problems)
    # The seed is drawn here and not by the worker, so that a retry of any job makes the same music.
    return params if params.seed is not None else params.model_copy(update={"seed": draw_seed()})


def _get_wanted_precision(params: MusicgenParams) -> str | None:
    return None if params.precision is Precision.AUTO else params.precision


def _measure_music(params: MusicgenParams) -> float:
    from shared.kinds.musicgen.lengths import measure_music  # noqa: PLC0415 - as in `_resolve`

    return measure_music(params)


def _find_amount_pointer(params: MusicgenParams) -> str:
    from shared.kinds.musicgen.lengths import find_amount_pointer  # noqa: PLC0415 - as in `_resolve`

    return find_amount_pointer(params)


def _present_result(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put the warnings of the samples into English."""
    samples = [sample | {"warnings": [*map(render_stored, sample["warnings"])]} for sample in result["samples"]]
    return {**result, "samples": samples}


def _name_download(params: Mapping[str, Any], result: Mapping[str, Any] | None, name: str) -> str:
    """Name a file after its prompt and seed: two samples of a job never have the same seed."""
    found = _ARTIFACT.fullmatch(name)
    samples = (result or {}).get("samples", [])
    if found is None or int(found["number"]) >= len(samples):
        return name
    sample = samples[int(found["number"])]
    what = "" if found["what"] == "audio" else f" {found['what']}"
    model = params["model"].rpartition("/")[2]
    return make_name(sample["prompt"] or model, f" {sample['seed']}{what}.{found['extension']}", model)


SPEC: Final = KindSpec(
    params=MusicgenParams,
    result=MusicgenResult,
    example={"prompts": ["80s pop track with bassy drums and synth"], "duration_s": 8},
    list_uploads=_list_uploads,
    reads=UploadKind.AUDIO,
    resolve=_resolve,
    precisions=PRECISIONS,
    wanted_precision=_get_wanted_precision,
    owner_limit=OwnerLimit(
        _measure_music, lambda settings: settings.max_queued_music_s, "music-limit", _find_amount_pointer
    ),
    repeat=repeat_seed,
    renew=renew_seed,
    present_result=_present_result,
    name_download=_name_download,
)
