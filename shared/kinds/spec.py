"""What the service must know about a kind of job; see ``docs/adding-a-kind.md``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from shared.inspection.upload_kinds import UploadKind
from shared.jobs import DeviceClass
from shared.schemas.strict import Strict
from shared.settings import Settings

P = TypeVar("P", bound=Strict)
Inspections = Mapping[str, Mapping[str, Any]]
"""What the inspections have found in uploads, as stored, keyed by the id of the upload."""


def no_uploads(params: Strict) -> dict[str, str]:  # noqa: ARG001 - the parameters of any kind
    """Return no uploads, for a kind whose jobs read no uploads."""
    return {}


def no_read_options(params: Strict) -> dict[str, dict[str, Any]]:  # noqa: ARG001 - the parameters of any kind
    """Return no options, for a kind whose jobs read every upload as it is detected."""
    return {}


def no_precision(params: Strict) -> None:
    """Return ``None``, for a kind whose jobs cannot choose a precision."""


def keep_params(params: P, inspections: Inspections, settings: Settings) -> P:  # noqa: ARG001 - the interface
    """Return the parameters unchanged, for a kind whose schema checks everything."""
    return params


def keep_stored(params: Mapping[str, Any], result: Mapping[str, Any] | None) -> Mapping[str, Any]:  # noqa: ARG001 - the interface
    """Return stored parameters unchanged, for a kind whose parameters alone decide what a job computes."""
    return params


def keep_result(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a stored result unchanged, for a kind whose results are stored in the form that the API shows."""
    return result


def keep_name(params: Mapping[str, Any], result: Mapping[str, Any] | None, name: str) -> str:  # noqa: ARG001 - the interface
    """Return the name of an artifact, for a kind whose downloads need no other names."""
    return name


@dataclass(frozen=True)
class OwnerLimit(Generic[P]):
    """A limit of how much all queued and running jobs of an owner compute together.

    Parameters
    ----------
    measure
        Returns how much a job computes, in the unit of the kind.
    read_max
        Returns the limit of an owner.
    code
        The code of the text that says that the limit is reached. Its values are ``amount``, which the new job computes,
        ``unended``, which the owner's other jobs compute, and ``max_amount``.
    find_pointer
        Returns the JSON pointer of the parameter that decides most how much a job computes.
    """

    measure: Callable[[P], float]
    read_max: Callable[[Settings], float]
    code: str
    find_pointer: Callable[[P], str]


@dataclass(frozen=True)
class KindSpec(Generic[P]):
    """One kind of job.

    Parameters
    ----------
    params
        The schema of the job's parameters.
    result
        The type of the job's result, a ``TypedDict``.
    example
        Parameters of a small job, for the description of the API.
    list_uploads
        Returns the ids of the uploads in the parameters, keyed by the JSON pointer of the parameter.
    reads
        The kind of upload that jobs read. A submission waits until such uploads are inspected, and is refused if one is
        unreadable or of another kind. ``None`` if uploads need no inspection.
    list_read_options
        Returns how the parameters say that uploads are read, keyed by upload id: the options of the inspection that are
        set and not detected, which JSON can represent.
    resolve
        Fills in, at submission, what the parameters leave open, and refuses parameters with which a job cannot succeed.
        It returns the parameters that are stored, which it would return again unchanged. The arguments are the
        parameters, what the inspections have found in the uploads, keyed by upload id, and the settings. If a parameter
        is refused, the function raises ``RequestInvalidError``. It must take milliseconds, since it runs in the web.
    precisions
        For each device class, the precisions that a backend of the kind can have there. If no live worker says what it
        offers, a job that wants another precision is refused by these. Empty for a kind without a choice of precision.
    wanted_precision
        Returns the requested precision by the name that ``Backend.list_precisions`` uses, or ``None`` if the job may
        use any precision. The job's parameter that requests it must be called ``precision``.
    owner_limit
        The limit of how much the jobs of an owner compute; ``None`` if only the number of jobs is limited.
    repeat
        Returns the parameters with which a job computes the same as an earlier one. The arguments are the stored
        parameters and the result of that job; ``None`` if it has no result.
    renew
        Returns the stored parameters of a job with another seed; ``None`` if jobs of the kind have no seed.
    present_result
        Converts a stored result to the type ``result``, which the API shows. A stored result contains texts as codes
        with values, and this function puts them into English.
    name_download
        Returns the name that a downloaded artifact gets on the user's disk, given the stored parameters, the stored
        result and the name of the artifact. Within a job, the names must differ; see `shared.files.download_names`.
    """

    params: type[P]
    result: type
    example: Mapping[str, Any]
    list_uploads: Callable[[P], dict[str, str]] = no_uploads
    reads: UploadKind | None = None
    list_read_options: Callable[[P], dict[str, dict[str, Any]]] = no_read_options
    resolve: Callable[[P, Inspections, Settings], P] = keep_params
    precisions: Mapping[DeviceClass, Sequence[str]] = field(default_factory=dict)
    wanted_precision: Callable[[P], str | None] = no_precision
    owner_limit: OwnerLimit[P] | None = None
    repeat: Callable[[Mapping[str, Any], Mapping[str, Any] | None], Mapping[str, Any]] = keep_stored
    renew: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    present_result: Callable[[Mapping[str, Any]], Mapping[str, Any]] = keep_result
    name_download: Callable[[Mapping[str, Any], Mapping[str, Any] | None, str], str] = keep_name
