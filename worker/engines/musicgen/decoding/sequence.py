"""One sample while it is generated. NumPy alone; what computes is behind ``Decoder``."""

import numpy as np

from shared.errors import JobFailedError
from worker.engines.musicgen.decoding.decoder import TextStates
from worker.engines.musicgen.decoding.delay import TO_GENERATE
from worker.engines.musicgen.decoding.random_numbers import draw_uniforms
from worker.engines.musicgen.decoding.sampling import Logits, choose_tokens, guide
from worker.engines.musicgen.request import Sampling, Tokens


class TokenSequence:
    """One sample while it is generated.

    Parameters
    ----------
    pattern
        Shape (codebooks, length), as ``delay.build_pattern`` makes it.
    text
        What it is to sound like; ``None`` for unconditional generation.
    resumed
        Tokens that an earlier attempt chose; a beginning of the sequence.
    """

    def __init__(
        self,
        pattern: Tokens,
        text: TextStates | None,
        sampling: Sampling,
        seed: int,
        resumed: Tokens | None = None,
    ) -> None:
        self._pattern = pattern
        self._sampling = sampling
        self._seed = seed
        self.text = text
        self.tokens = pattern.copy()
        generated = np.flatnonzero((pattern == TO_GENERATE).any(axis=0))
        self.first = int(generated[0]) if len(generated) else pattern.shape[1]
        self.known = self.first
        if resumed is not None and resumed.shape[1] > self.known:
            self.known = resumed.shape[1]
            self.tokens[:, : self.known] = resumed

    @property
    def texts(self) -> tuple[TextStates | None, ...]:
        """Texts of the decoder's rows it needs: its own, and none where it is guided away from that.

        Without a text both would be the same.
        """
        guided = self.text is not None and self._sampling.guidance_scale > 1
        return (self.text, None) if guided else (self.text,)

    @property
    def position(self) -> int:
        """The last known position, which the decoder reads next."""
        return self.known - 1

    @property
    def length(self) -> int:
        """How many positions there will be."""
        return self.tokens.shape[1]

    @property
    def finished(self) -> bool:
        """Whether every position is known."""
        return self.known == self.length

    def extend(self, conditional: Logits, unconditional: Logits | None = None) -> None:
        """Choose the tokens of the next position.

        Raises
        ------
        JobFailedError
            The logits are not numbers.
        """
        logits = conditional
        if unconditional is not None:
            logits = guide(conditional, unconditional, self._sampling.guidance_scale)
        if not np.isfinite(logits).all():
            raise JobFailedError(
                "not-finite",
                f"At position {self.known} the model's logits are not finite: its weights are damaged, or too large "
                "for the precision. Choose another model, or precision float32.",
            )
        uniforms = draw_uniforms(self._seed, self.known, *logits.shape) if self._sampling.do_sample else None
        given = self._pattern[:, self.known]
        chosen = choose_tokens(logits, self._sampling, uniforms)
        self.tokens[:, self.known] = np.where(given == TO_GENERATE, chosen, given)
        self.known += 1
