"""The tokenizer of a model: turns a prompt into the tokens that the text encoder reads."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from shared.kinds.musicgen.catalogue import TOKENIZER
from shared.texts import text
from worker.engines.musicgen.model.configuration import unusable_model


class PromptTokenizer:
    """Reads the tokenizer of a model.

    Parameters
    ----------
    folder
        The folder of the model.

    Raises
    ------
    JobFailedError
        The file of the tokenizer is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / TOKENIZER
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises no narrower class of exception
            raise unusable_model(text("tokenizer-unreadable", path=str(path), error=str(error))) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, prompt: str) -> NDArray[np.int32]:
        """Return the tokens of a prompt: shape (tokens,), including the end token."""
        return np.array(self._tokenizer.encode(prompt).ids, dtype=np.int32)
