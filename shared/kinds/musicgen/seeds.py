"""Seeds of music jobs: sample n of a job has the job's seed plus n."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

from shared.kinds.musicgen.parameters import MAX_PROMPTS, MAX_SAMPLES

MAX_EXACT: Final = 2**53
"""Below this number, JavaScript represents every integer exactly."""


def draw_seed() -> int:
    """Draw the seed of a job at random, so that the seeds of all its samples are below `MAX_EXACT`."""
    return secrets.randbelow(MAX_EXACT - MAX_PROMPTS * MAX_SAMPLES)


def repeat_seed(params: Mapping[str, Any], result: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the parameters with the seed that the job had.

    Since version 0.1.0, a seed is drawn at submission and stands in the parameters. For earlier jobs, the worker drew
    it, and it stands only in the result.
    """
    samples = (result or {}).get("samples")
    return {**params, "seed": samples[0]["seed"]} if params.get("seed") is None and samples else params


def renew_seed(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters without a seed: a submission draws one."""
    return {**params, "seed": None}
