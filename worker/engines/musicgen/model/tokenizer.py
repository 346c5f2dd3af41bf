"""The tokenizer of a model: turns a prompt into the tokens that the text encoder reads."""

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from shared.kinds.musicgen.catalogue import TOKENIZER
from shared.texts import text
from worker.engines.musicgen.model.configuration import unusable_model

_WITHOUT_MEANING: Final = frozenset("CMPZ")
"""The first letters of Unicode's categories of characters that say nothing alone: control characters, marks,
punctuation and separators. Most of them are known even where the letters between them are not."""


@dataclass(frozen=True)
class PromptReading:
    """How a tokenizer reads a prompt.

    Parameters
    ----------
    tokens
        How many tokens the text encoder reads, including the end token.
    characters
        How many letters, digits and symbols the prompt has.
    unknown
        Those of them that the tokenizer does not know, in the order of the prompt.
    """

    tokens: int
    characters: int
    unknown: str


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
            content = path.read_text(encoding="utf-8")
            self._tokenizer = Tokenizer.from_str(content)
            self._unknown = _find_unknown(self._tokenizer, json.loads(content)["model"])
        except Exception as error:  # the library raises no narrower class of exception
            raise unusable_model(text("tokenizer-unreadable", path=str(path), error=str(error))) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, prompt: str) -> NDArray[np.int32]:
        """Return the tokens of a prompt: shape (tokens,), including the end token."""
        return np.array(self._tokenizer.encode(prompt).ids, dtype=np.int32)

    def read(self, prompt: str) -> PromptReading:
        """Find out what the tokenizer knows of a prompt.

        Characters are counted, not tokens: a single token stands for any number of neighbouring unknown characters, and
        a blank before them is a token of its own.
        """
        encoding = self._tokenizer.encode(prompt)
        places = {
            place
            for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if number == self._unknown
            for place in range(start, end)
        }
        counted = [place for place, each in enumerate(prompt) if unicodedata.category(each)[0] not in _WITHOUT_MEANING]
        return PromptReading(
            len(encoding.ids), len(counted), "".join(prompt[place] for place in counted if place in places)
        )


def _find_unknown(tokenizer: Tokenizer, model: dict[str, Any]) -> int | None:
    """Return the number of the token for unknown text; ``None`` if the tokenizer knows every text."""
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    token = model.get("unk_token")
    number: int | None = tokenizer.token_to_id(token) if isinstance(token, str) else None
    return number
