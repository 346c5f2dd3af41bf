"""The built-in model: random weights in the layout of a real model, to try the service without a download.

It has the same frame rate, codebooks and delays as the published models; its output
is noise.
"""

import shutil
from pathlib import Path
from typing import Final

from shared.files.local import TEMPORARY_PREFIX
from shared.ids import make_id
from shared.kinds.musicgen.catalogue import find_missing_file
from shared.texts import text
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
    """Write the built-in model, completely or not at all.

    If several processes write the model at the same time, the folder of the first one is kept, and no process fails.

    Raises
    ------
    JobFailedError
        The model cannot be written, or ``folder`` already exists with other content.
    """
    temporary = folder.with_name(f"{TEMPORARY_PREFIX}{make_id()}")
    try:
        write_random_model(temporary, TINY, SEED)
        temporary.rename(folder)
    except OSError as error:
        missing = find_missing_file(folder)
        if missing is not None:
            reason = text("model-builtin-not-written", missing=str(missing), error=str(error))
            raise unusable_model(reason) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
