"""How long to wait before something that failed is tried again: lost jobs, webhooks, requests of the client."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RetryDelay:
    """A delay that doubles with each failed attempt, up to a limit."""

    first_s: float
    max_s: float

    def after(self, attempt: int) -> float:
        """Return the delay after a failed attempt, in seconds; ``attempt`` 1 is the first."""
        doublings = min(attempt - 1, 60)  # more would overflow
        return min(self.first_s * 2.0**doublings, self.max_s)
