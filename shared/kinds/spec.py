"""What the service must know of a kind of job; see ``docs/adding-a-kind.md``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from shared.schemas.strict import Strict
from shared.settings import Settings

P = TypeVar("P", bound=Strict)


def no_uploads(params: Strict) -> dict[str, str]:  # noqa: ARG001 - the parameters of any kind
    """List the uploads of a kind whose jobs read none."""
    return {}


def no_precision(params: Strict) -> None:
    """Return the precision of a kind that has no choice of one."""


def keep_result(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Present the result of a kind whose stored results have the form that the API shows."""
    return result


@dataclass(frozen=True)
class KindSpec(Generic[P]):
    """One kind of job.

    Parameters
    ----------
    params
        The schema of its parameters.
    result
        The type of its result, a ``TypedDict``.
    example
        Parameters of a small job, for the description of the API.
    list_uploads
        Returns JSON pointer to upload id, of each upload that the parameters name.
    check_inputs
        Refuses at submission what the engine would refuse later, so that no job is queued that cannot succeed.
        It takes the parameters, upload id to the file on this machine, and the settings, and raises
        ``RequestInvalidError``. ``None`` if the schema alone decides.
    wanted_precision
        Returns the precision that the parameters ask for, by the name under which workers offer it
        (``Backend.list_precisions``), or ``None`` if any will do. The parameter itself is ``precision``.
    present_result
        Returns a stored result in the form of ``result``, as the API shows it: texts, which are stored as codes with
        values, are put into English.
    """

    params: type[P]
    result: type
    example: Mapping[str, Any]
    list_uploads: Callable[[P], dict[str, str]] = no_uploads
    check_inputs: Callable[[P, Mapping[str, Path], Settings], None] | None = None
    wanted_precision: Callable[[P], str | None] = no_precision
    present_result: Callable[[Mapping[str, Any]], Mapping[str, Any]] = keep_result
