"""Music generation: parameters, results, the catalogue of models, and audio formats."""

from typing import Final

from shared.kinds.musicgen.parameters import MusicgenParams
from shared.kinds.musicgen.result import MusicgenResult
from shared.kinds.spec import KindSpec


def _list_uploads(params: MusicgenParams) -> dict[str, str]:
    return {f"/params/audio_prompts/{index}/upload": clip.upload for index, clip in enumerate(params.audio_prompts)}


SPEC: Final = KindSpec(
    params=MusicgenParams,
    result=MusicgenResult,
    example={"prompts": ["80s pop track with bassy drums and synth"], "duration_s": 8},
    list_uploads=_list_uploads,
)
