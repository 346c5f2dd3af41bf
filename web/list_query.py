"""Reads the query parameters of lists (of jobs, for the API and for the page, and of uploads) and of a retry."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from shared.database.queries import JobFilter
from shared.errors import Problem, RequestInvalidError
from shared.ids import is_id
from shared.jobs import DeviceClass, Kind, State
from shared.schemas.problems import list_problems, list_unacceptable
from shared.schemas.strict import invalidity
from shared.schemas.submission import MAX_LABELS
from shared.texts import text
from web.auth import get_visible_owner

LABEL_PREFIX: Final = "label."
"""The prefix of the query parameters that filter jobs by a label: ``label.NAME=VALUE``."""
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_BLANK_BEFORE_ZONE: Final = re.compile(r":\d\d(\.\d+)? \d\d(:?\d\d)?\Z", re.ASCII)


def _convert_to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise invalidity(text("timestamp-out-of-range")) from error


def _check_form(given: str) -> str:
    """Refuse plain numbers, and times whose ``+`` became a blank.

    pydantic would read a number, even 2026, as seconds since 1970. Clients do not need numbers, because no response
    contains a time as a number. In a query, an unescaped ``+`` stands for a blank.
    """
    if not _DATE.match(given):
        raise invalidity(text("timestamp-invalid"))
    if _BLANK_BEFORE_ZONE.search(given):
        raise invalidity(text("timestamp-plus-unescaped"))
    return given


def _check_cursor(given: str | None) -> str | None:
    if given is not None and not is_id(given):
        raise invalidity(text("cursor-invalid"))
    return given


_REPEATABLE: Final = frozenset({"state"})
Timestamp = Annotated[AwareDatetime, BeforeValidator(_check_form), AfterValidator(_convert_to_utc)]


class PageQuery(BaseModel):
    """The query parameters of every list. Their values are text, so numbers are converted."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100)] = 50
    cursor: Annotated[str | None, AfterValidator(_check_cursor)] = Field(
        default=None, description="The `next_cursor` of the previous page."
    )


class ListQuery(PageQuery):
    """The query parameters of ``GET /jobs``."""

    state: Annotated[
        list[State], Field(description="May be repeated: a job matches if it is in one of the states.")
    ] = Field(default_factory=list)
    kind: Kind | None = None
    device: DeviceClass | None = None
    created_after: Timestamp | None = None
    created_before: Timestamp | None = None


class RetryQuery(BaseModel):
    """The query parameters of a retry."""

    model_config = ConfigDict(extra="forbid")

    seed: Annotated[
        Literal["new"] | None, Field(description="`new`: the new job has another seed. By default, it has the same.")
    ] = None


Query = TypeVar("Query", bound=BaseModel)


def read_page_query(given: Mapping[str, Sequence[str]]) -> PageQuery:
    """Read which page of a list without filters a client wants.

    Parameters
    ----------
    given
        The query parameters: for each name, every value.

    Raises
    ------
    RequestInvalidError
        At least one parameter is wrong. The error contains a problem for each wrong parameter.
    """
    _refuse_repeated(given)
    return _parse(PageQuery, given)


def read_retry_query(given: Mapping[str, Sequence[str]]) -> RetryQuery:
    """Read how an ended job is submitted again.

    Raises
    ------
    RequestInvalidError
        At least one parameter is wrong. The error contains a problem for each wrong parameter.
    """
    _refuse_repeated(given)
    return _parse(RetryQuery, given)


def read_list_query(given: Mapping[str, Sequence[str]]) -> tuple[JobFilter, int, str | None]:
    """Read which jobs to list, and which page of the list.

    Parameters
    ----------
    given
        The query parameters: for each name, every value.

    Returns
    -------
    wanted, limit, cursor
        The filter for the jobs, the maximum number of jobs on the page, and the id of the job after which the page
        begins; ``None`` for the first page.

    Raises
    ------
    RequestInvalidError
        At least one parameter is wrong. The error contains a problem for each wrong parameter.
    """
    _refuse_repeated(given)
    labels = {
        name.removeprefix(LABEL_PREFIX): values[0] for name, values in given.items() if name.startswith(LABEL_PREFIX)
    }
    query = _parse(ListQuery, {name: values for name, values in given.items() if not name.startswith(LABEL_PREFIX)})
    if len(labels) > MAX_LABELS:
        raise RequestInvalidError.at("/label", text("labels-too-many", max_labels=MAX_LABELS))
    problems = list_unacceptable(labels)
    if problems:
        raise RequestInvalidError(problems)
    owner = get_visible_owner()
    wanted = JobFilter(owner, query.state, query.kind, query.device, labels, query.created_after, query.created_before)
    return wanted, query.limit, query.cursor


def _refuse_repeated(given: Mapping[str, Sequence[str]]) -> None:
    repeated = [name for name, values in given.items() if len(values) > 1 and name not in _REPEATABLE]
    if repeated:
        raise RequestInvalidError(Problem(f"/{name}", text("parameter-repeated")) for name in repeated)


def _parse(schema: type[Query], given: Mapping[str, Sequence[str]]) -> Query:
    first = {name: values[0] for name, values in given.items()}
    try:
        return schema.model_validate(first | {name: given[name] for name in _REPEATABLE if name in given})
    except ValidationError as error:
        # The pointers name parameters only, so the values are given to the function without their lists.
        raise RequestInvalidError(list_problems(error, first)) from error
