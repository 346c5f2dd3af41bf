"""Generates a piece of music again from what its file says about itself, and compares the codes."""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.audio.provenance import ClipOrigin, Provenance
from shared.audio.tags import read_tags
from shared.client.api import Client
from shared.client.responses import Job

KIND: Final = "musicgen"
_COMPARED: Final = ("engine", "precision", "device", "mindjobs")
"""What may differ between two jobs with the same parameters, and so make other codes."""


@dataclass(frozen=True)
class Comparison:
    """Whether a job has generated the codes of a file again.

    Parameters
    ----------
    equal
        Whether the codes are equal.
    differences
        For each circumstance that differs, its name, and its values for the file and for the job. It is empty if the
        codes are equal.
    """

    equal: bool
    differences: dict[str, tuple[str, str]]


def read_provenance(path: Path) -> Provenance:
    """Read what a file of music says about itself.

    Raises
    ------
    ValueError
        The file does not say what made it.
    """
    with path.open("rb") as file:
        try:
            provenance = Provenance.parse(read_tags(file).comment)
        except ValueError as error:
            raise ValueError(f"{path} is not a WAV, FLAC, Ogg or MP3 file that can be read ({error})") from error
    if provenance is None:
        raise ValueError(
            f"{path} does not say what made it: mindjobs did not write it, or another program removed its tags"
        )
    return provenance


def check_clip(provenance: Provenance, clip: Path | None) -> None:
    """Check that a file is the clip that a piece of music continues.

    Raises
    ------
    ValueError
        It is another file, or the music continues no clip, or the file is missing.
    """
    origin = provenance.clip
    if origin is None and clip is not None:
        raise ValueError("this music continues no clip; leave --clip out")
    if origin is not None and clip is None:
        raise ValueError(
            f"this music continues a clip; give the file that was uploaded with --clip; its SHA-256 is {origin.sha256}"
        )
    if origin is not None and clip is not None and (found := _hash(clip)) != origin.sha256:
        raise ValueError(f"{clip} is another clip: its SHA-256 is {found}, but the music continues {origin.sha256}")


def build_params(provenance: Provenance, upload_clip: Callable[[], str]) -> dict[str, Any]:
    """Build the parameters of a job that generates the sample again, alone.

    Parameters
    ----------
    upload_clip
        Uploads the clip and returns the id of the upload; called only if the music continues a clip.
    """
    return {
        **provenance.parameters,
        "model": provenance.model,
        "prompts": [] if provenance.prompt is None else [provenance.prompt],
        "audio_prompts": [] if provenance.clip is None else [_name_part(provenance.clip, upload_clip())],
        "num_samples": 1,
        "seed": provenance.seed,
        "precision": provenance.precision,
    }


def compare(client: Client, provenance: Provenance, job: Job) -> Comparison:
    """Compare the codes of a job that has succeeded with those of a file.

    Raises
    ------
    ClientError
        A file of the job cannot be downloaded.
    """
    [sample] = (job.result or {})["samples"]
    with tempfile.TemporaryDirectory(prefix="mindjobs-") as folder:
        [codes] = client.download(job.id, folder, sample["codes"])
        if hash_codes(codes.read_bytes()) == provenance.codes_sha256:
            return Comparison(equal=True, differences={})
        [audio] = client.download(job.id, folder, sample["audio"])
        made = read_provenance(audio)
    pairs = {name: (str(getattr(provenance, name)), str(getattr(made, name))) for name in _COMPARED}
    return Comparison(equal=False, differences={name: pair for name, pair in pairs.items() if pair[0] != pair[1]})


def hash_codes(content: bytes) -> str:
    """Return the SHA-256 of the numbers in a ``.npy`` file, which follow its header (NumPy's NEP 1)."""
    size_bytes = 2 if content[6] == 1 else 4  # in version 1 of the format, the size of the header has two bytes
    start = 8 + size_bytes
    return hashlib.sha256(content[start + int.from_bytes(content[8:start], "little") :]).hexdigest()


def _name_part(clip: ClipOrigin, upload_id: str) -> dict[str, Any]:
    return {"upload": upload_id, "start_s": clip.start_s, "end_s": clip.end_s}


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
