"""The weight files that are refused: pickles, since reading a pickle can run any code."""

from collections.abc import Iterable
from typing import Final

from shared.errors import JobFailedError
from shared.texts import text
from worker.engines.musicgen.model.configuration import unusable_model

PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def pickles_refused(where: str, names: Iterable[str]) -> JobFailedError:
    """Make the error for a model whose weights exist only as pickles."""
    return unusable_model(text("model-pickled", where=where, files=" and ".join(sorted(names))))
