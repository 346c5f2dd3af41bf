"""The delay before a failed action is repeated: a lost job, a webhook message, or a request of the client."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RetryDelay:
    """A delay that doubles with each failed attempt, up to a limit."""

    first_s: float
    max_s: float

    def after(self, attempt: int) -> float:
        """Return the delay in seconds after a failed attempt. The number of the first attempt is 1."""
        doublings = min(attempt - 1, 60)  # more doublings would overflow
        return min(self.first_s * 2.0**doublings, self.max_s)
