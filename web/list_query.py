"""Reads the query parameters of the job list, for the API and for the page."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from shared.database.queries import JobFilter
from shared.errors import RequestInvalidError
from shared.ids import is_id
from shared.jobs import DeviceClass, Kind, State
from shared.schemas.problems import list_problems, list_unstorable
from shared.schemas.strict import invalidity
from shared.schemas.submission import MAX_LABELS
from shared.texts import text
from web.auth import get_visible_owner

LABEL_PREFIX: Final = "label."
"""The prefix of the query parameters that filter jobs by a label: ``label.NAME=VALUE``."""
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _convert_to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise invalidity(text("timestamp-out-of-range")) from error


def _refuse_number(given: str) -> str:
    """Refuse plain numbers: pydantic would read a number, even 2026, as seconds since 1970.

    Clients do not need numbers, because no response contains a time as a number.
    """
    if not _DATE.match(given):
        raise invalidity(text("timestamp-invalid"))
    return given


Timestamp = Annotated[AwareDatetime, BeforeValidator(_refuse_number), AfterValidator(_convert_to_utc)]


class ListQuery(BaseModel):
    """The query parameters of ``GET /jobs``. Their values are text, so numbers are converted."""

    model_config = ConfigDict(extra="forbid")

    state: State | None = None
    kind: Kind | None = None
    device: DeviceClass | None = None
    created_after: Timestamp | None = None
    created_before: Timestamp | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50
    cursor: Annotated[str | None, Field(description="The `next_cursor` of the previous page.")] = None


def read_list_query(given: Mapping[str, str]) -> tuple[JobFilter, int, str | None]:
    """Read which jobs to list, and which page of the list.

    Parameters
    ----------
    given
        The query parameters.

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
    labels = {name.removeprefix(LABEL_PREFIX): value for name, value in given.items() if name.startswith(LABEL_PREFIX)}
    others = {name: value for name, value in given.items() if not name.startswith(LABEL_PREFIX)}
    try:
        query = ListQuery.model_validate(others)
    except ValidationError as error:
        raise RequestInvalidError(list_problems(error, others)) from error
    if len(labels) > MAX_LABELS:
        raise RequestInvalidError.at("/label", text("labels-too-many", max_labels=MAX_LABELS))
    problems = list_unstorable(labels)
    if problems:
        raise RequestInvalidError(problems)
    if query.cursor is not None and not is_id(query.cursor):
        raise RequestInvalidError.at("/cursor", text("cursor-invalid"))
    owner = get_visible_owner()
    wanted = JobFilter(owner, query.state, query.kind, query.device, labels, query.created_after, query.created_before)
    return wanted, query.limit, query.cursor
