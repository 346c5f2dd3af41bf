"""A job whose parameters are parsed."""

from dataclasses import dataclass
from typing import Self

from pydantic import ValidationError

from shared.database.tables import Job
from shared.jobs import Kind
from shared.kinds import parse_params
from shared.schemas.strict import Strict


@dataclass(frozen=True)
class ParsedJob:
    """A job's row and its parameters, which are parsed once.

    Parameters
    ----------
    params
        The parsed parameters, or the error if the parameters do not fit the schema. This happens if another version of
        the service, with another schema, queued the job. Such a job fails with this error when it is run.
    """

    row: Job
    params: Strict | ValidationError

    @classmethod
    def parse(cls, row: Job) -> Self:
        """Parse a job's parameters."""
        try:
            return cls(row, parse_params(row.kind, row.params))
        except ValidationError as error:
            return cls(row, error)

    def require_params(self) -> Strict:
        """Return the parameters.

        Raises
        ------
        ValidationError
            The parameters do not fit the schema.
        """
        if isinstance(self.params, ValidationError):
            raise self.params
        return self.params

    @property
    def kind(self) -> Kind:
        """The job's kind."""
        return Kind(self.row.kind)


def is_last_attempt(row: Job, *, claimed: bool = True) -> bool:
    """Return whether the current attempt of a job is its last one, and earlier attempts of the job were lost.

    Parameters
    ----------
    claimed
        Whether the job is claimed, so that the current attempt has begun. If not, the attempt that the next claim
        would begin counts as the current attempt.
    """
    attempt = row.attempt if claimed else row.attempt + 1
    return attempt > 1 and attempt >= row.max_attempts
