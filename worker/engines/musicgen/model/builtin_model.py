"""The built-in model: random weights in a real model's layout, so that the pipeline can be tried without a download.

Its frame rate, its codebooks and its delays are the published models'; what it
makes is noise.
"""

import shutil
from pathlib import Path
from typing import Final

from shared.files.local import TEMPORARY_PREFIX
from shared.ids import make_id
from shared.kinds.musicgen.catalogue import find_missing_file
from worker.engines.musicgen.model.configuration import unusable_model
from worker.engines.musicgen.model.random_model import Size, write_random_model

SEED: Final = 0
TINY: Final = Size(
    hidden=64,
    layers=2,
    heads=4,
    feed_forward=256,
    text_hidden=48,
    text_layers=2,
    text_heads=4,
    text_feed_forward=96,
    text_vocabulary=128,
    filters=4,
    codec_hidden=16,
    loudness=0.05,
)


def build_tiny(folder: Path) -> None:
    """Write the built-in model, whole or not at all; of several processes that do so at once, one wins.

    Raises
    ------
    JobFailedError
        It cannot be written, or something else has the folder's name.
    """
    temporary = folder.with_name(f"{TEMPORARY_PREFIX}{make_id()}")
    try:
        write_random_model(temporary, TINY, SEED)
        temporary.rename(folder)
    except OSError as error:
        lack = find_missing_file(folder)
        if lack is not None:
            raise unusable_model(
                f"{lack}, and it cannot be made anew ({error}); make room or remove that folder."
            ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
