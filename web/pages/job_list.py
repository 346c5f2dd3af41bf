"""The list of jobs."""

from typing import Any, Final

from flask import render_template, request, url_for

from shared.errors import RequestInvalidError
from shared.jobs import DeviceClass, Kind, State
from shared.schemas import responses
from shared.texts import text
from web.context import get_services
from web.list_query import LABEL_PREFIX, read_list_query
from web.pages import blueprint
from web.serializers import serialize_page

JOBS_PER_PAGE: Final = 50
CHOICES: Final = {"state": [*State], "kind": [*Kind], "device": [*DeviceClass]}


@blueprint.get("/jobs")
def show_jobs() -> str | tuple[str, int]:
    """Show the jobs that match the filters, newest first."""
    stripped = {name: [value.strip() for value in values if value.strip()] for name, values in request.args.lists()}
    given = {name: values for name, values in stripped.items() if values}
    query = {"limit": [str(JOBS_PER_PAGE)]} | given
    labels = query.pop("label", [])
    try:
        if len(labels) > 1:
            raise RequestInvalidError.at("/label", text("parameter-repeated"))
        for label in labels:
            name, equals, value = label.partition("=")
            if not (name and equals):
                raise RequestInvalidError.at("/label", text("label-filter-invalid"))
            query[LABEL_PREFIX + name] = [value]
        wanted = read_list_query(query)
    except RequestInvalidError as error:
        return _render([], None, given, error), error.status
    with get_services().database.reading() as session:
        documents, next_cursor = serialize_page(session, *wanted)
    return _render(documents, next_cursor, given, None)


def _render(
    jobs: list[responses.Job], next_cursor: str | None, given: dict[str, list[str]], error: RequestInvalidError | None
) -> str:
    problems = {problem.pointer.strip("/"): problem.detail for problem in error.problems} if error else {}
    # After an error the query may contain unknown names, which must not become parts of a link.
    newest: dict[str, Any] = {} if error else {name: value for name, value in given.items() if name != "cursor"}
    older = url_for("pages.show_jobs", **(newest | {"cursor": next_cursor})) if next_cursor else None
    return render_template(
        "pages/jobs.html", jobs=jobs, older=older, newest=newest, given=given, problems=problems, choices=CHOICES
    )
