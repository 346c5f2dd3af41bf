"""The query of the list of jobs, of the API's and of the page's."""

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
from shared.schemas.submission import MAX_LABELS
from web.auth import get_visible_owner

LABEL: Final = "label."
"""How the parameters begin that filter by a label."""
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _read_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("lies outside of the calendar") from error


def _refuse_number(text: str) -> str:
    """Refuse seconds since 1970, which pydantic would take: no answer has them, and a year alone is no moment."""
    if not _DATE.match(text):
        raise ValueError("is not a moment as RFC 3339 writes it; give 2026-01-31T12:00:00Z, for example")
    return text


Moment = Annotated[AwareDatetime, BeforeValidator(_refuse_number), AfterValidator(_read_utc)]


class ListQuery(BaseModel):
    """The query of ``GET /jobs``; query strings are text, so numbers are read from it."""

    model_config = ConfigDict(extra="forbid")

    state: State | None = None
    kind: Kind | None = None
    device: DeviceClass | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50
    cursor: Annotated[str | None, Field(description="The `next_cursor` of the page before.")] = None


def read_list_query(given: Mapping[str, str]) -> tuple[JobFilter, int, str | None]:
    """Return which jobs to list, how many, and before which one.

    Parameters
    ----------
    given
        The query's parameters.

    Raises
    ------
    RequestInvalidError
        Naming each parameter that is wrong.
    """
    labels = {name.removeprefix(LABEL): value for name, value in given.items() if name.startswith(LABEL)}
    others = {name: value for name, value in given.items() if not name.startswith(LABEL)}
    try:
        query = ListQuery.model_validate(others)
    except ValidationError as error:
        raise RequestInvalidError(list_problems(error, others)) from error
    if len(labels) > MAX_LABELS:
        raise RequestInvalidError.at("/label", f"no job has more than {MAX_LABELS} labels; give fewer")
    problems = list_unstorable(labels)
    if problems:
        raise RequestInvalidError(problems)
    if query.cursor is not None and not is_id(query.cursor):
        raise RequestInvalidError.at("/cursor", "is not a cursor; give the next_cursor of the page before")
    owner = get_visible_owner()
    wanted = JobFilter(owner, query.state, query.kind, query.device, labels, query.created_after, query.created_before)
    return wanted, query.limit, query.cursor
