"""The tokens of one sample while it is decoded; this module uses only NumPy, and never calls the model."""

import numpy as np

from shared.errors import JobFailedError
from shared.texts import text
from worker.engines.musicgen.decoding.decoder import TextStates
from worker.engines.musicgen.decoding.delay import TO_GENERATE
from worker.engines.musicgen.decoding.random_numbers import draw_uniforms
from worker.engines.musicgen.decoding.sampling import Logits, choose_tokens, guide
from worker.engines.musicgen.request import Sampling, Tokens


class TokenSequence:
    """The tokens of one sample while it is decoded.

    Parameters
    ----------
    pattern
        The whole sequence, shape (codebooks, length), as `delay.build_pattern` returns it.
    prompt
        The encoded text of what the music should sound like; ``None`` for unconditional generation.
    resumed
        The first positions of the sequence, with the tokens that an earlier attempt chose; ``None`` if there are none.

    Attributes
    ----------
    tokens
        Shape (codebooks, length); only the first ``known_length`` positions are valid.
    given_length
        How many positions are known before the generation: the start token and the positions of the clip.
    known_length
        How many positions are known now.
    """

    def __init__(
        self,
        pattern: Tokens,
        prompt: TextStates | None,
        sampling: Sampling,
        seed: int,
        resumed: Tokens | None = None,
    ) -> None:
        self._pattern = pattern
        self._prompt = prompt
        self._sampling = sampling
        self._seed = seed
        self.tokens = pattern.copy()
        to_generate = np.flatnonzero((pattern == TO_GENERATE).any(axis=0))
        self.given_length = int(to_generate[0]) if len(to_generate) else pattern.shape[1]
        self.known_length = self.given_length
        if resumed is not None and resumed.shape[1] > self.known_length:
            self.known_length = resumed.shape[1]
            self.tokens[:, : self.known_length] = resumed

    @property
    def slot_texts(self) -> tuple[TextStates | None, ...]:
        """The text of each decoder slot that the sequence needs.

        The first slot has the prompt. With guidance, there is a second slot, which has no text (``None``).
        If there is no prompt, both slots would compute the same, so there is only one slot.
        """
        guided = self._prompt is not None and self._sampling.guidance_scale > 1
        return (self._prompt, None) if guided else (self._prompt,)

    @property
    def position(self) -> int:
        """The last known position, which the decoder reads next."""
        return self.known_length - 1

    @property
    def length(self) -> int:
        """How many positions the finished sequence has."""
        return self.tokens.shape[1]

    @property
    def finished(self) -> bool:
        """Whether every position is known."""
        return self.known_length == self.length

    def extend(self, conditional: Logits, unconditional: Logits | None = None) -> None:
        """Choose the tokens of the next position.

        Raises
        ------
        JobFailedError
            The logits have NaN or infinite values.
        """
        logits = conditional
        if unconditional is not None:
            logits = guide(conditional, unconditional, self._sampling.guidance_scale)
        if not np.isfinite(logits).all():
            raise JobFailedError("not-finite", text("logits-not-finite", position=self.known_length))
        uniforms = draw_uniforms(self._seed, self.known_length, *logits.shape) if self._sampling.do_sample else None
        given = self._pattern[:, self.known_length]
        chosen = choose_tokens(logits, self._sampling, uniforms)
        self.tokens[:, self.known_length] = np.where(given == TO_GENERATE, chosen, given)
        self.known_length += 1
