"""The roles of API keys."""

from enum import StrEnum


class Role(StrEnum):
    """What an API key may do in addition to using the jobs and uploads of its own."""

    USER = "user"
    """Nothing more."""
    OPERATOR = "operator"
    """Operate the instance."""
