"""Bodies of submissions, drawn at random."""

import random
from typing import Any

from shared.jobs import Kind
from shared.kinds.musicgen.catalogue import TINY


def draw_knn(random_: random.Random) -> dict[str, Any]:
    """Draw a knn job on the data set wine."""
    return {"kind": Kind.KNN, "params": {"k": random_.randint(1, 20)}}


def draw_music(random_: random.Random, *, max_tokens: int) -> dict[str, Any]:
    """Draw a job for the smallest model, with 5 to ``max_tokens`` tokens per sample."""
    params = {
        "model": TINY,
        "prompts": random_.choice(([], ["rock"], ["rock", "a slow waltz"])),
        "num_samples": random_.randint(1, 3),
        "max_new_tokens": random_.randint(5, max_tokens),
        "guidance_scale": random_.choice((1.0, 3.0)),
        "precision": random_.choices(("int8", "float32"), (4, 1))[0],
        "seed": random_.randrange(1_000),
    }
    return {"kind": Kind.MUSICGEN, "params": params}
