"""What made a file of music, as each file says it in its comment."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.version import VERSION


class ClipOrigin(BaseModel):
    """The clip that the music continues: the SHA-256 of the uploaded file, and the part of it, in seconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: str
    start_s: float = 0.0
    end_s: float | None = None


class Provenance(BaseModel):
    """What made one sample.

    Parameters
    ----------
    mindjobs
        The version of the service.
    job
        The id of the job; ``None`` for a job outside the service.
    prompt
        The text; ``None`` for unconditional generation.
    seed
        The seed of this sample. A job of one sample with this seed generates the same codes.
    parameters
        The other parameters of the job, in the form of the API.
    engine, precision, device
        What computed the music.
    codes_sha256
        The SHA-256 of the codes as they stand in the artifact ``codes-N.npy`` after the header: 16-bit integers, little
        endian, codebook after codebook.
    clip
        The clip that the music continues, if there is one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    mindjobs: str = VERSION
    job: str | None = None
    prompt: str | None = None
    seed: int
    model: str
    parameters: dict[str, Any]
    engine: str
    precision: str
    device: str
    codes_sha256: str
    clip: ClipOrigin | None = None

    def serialize(self) -> str:
        """Return the comment of a file: JSON of ASCII characters alone, which every format keeps unchanged."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=True)

    @classmethod
    def parse(cls, comment: str) -> "Provenance | None":
        """Parse the comment of a file; ``None`` if mindjobs did not write it."""
        try:
            return cls.model_validate_json(comment)
        except ValidationError:
            return None
