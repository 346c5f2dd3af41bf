"""Decodes clips for a worker. Only the process without rights imports this module.

It is not in `audio`, since it needs soxr, which only workers have.
"""

from pathlib import Path
from typing import Any

import numpy as np

from shared.audio.part import WantedPart, decode_part


def decode(path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Decode a part of an audio file.

    Parameters
    ----------
    options
        ``max_s``: how much audio may be decoded, in seconds; ``wanted``: the fields of `WantedPart`.

    Returns
    -------
    The fields of `shared.audio.part.DecodedPart` without the samples, and these: float32 in the order of the machine,
    first all of the first channel, then those of the second.

    Raises
    ------
    AudioError
        The file has no sound that can be read.
    """
    part = decode_part(path, WantedPart(**options["wanted"]), options["max_s"])
    facts = {
        "read_s": part.read_s,
        "part_s": part.part_s,
        "ended": part.ended,
        "warnings": [warning.serialize() for warning in part.warnings],
    }
    return facts, np.ascontiguousarray(part.samples.T).tobytes()
