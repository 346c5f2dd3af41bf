"""The views: each parses, calls one function, and renders."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from flask import redirect, render_template, request, url_for
from werkzeug import Response

from shared import queries, submission, transitions
from shared.errors import Problem, RequestInvalidError
from shared.ids import is_id
from shared.jobs import ENDED, Kind
from shared.queries import JobFilter
from shared.schemas.problems import list_unstorable
from shared.services import Services
from web.api.uploads import MULTIPART_BYTES, store
from web.context import get_services
from web.documents import view_job, write_page
from web.pages import blueprint
from web.pages.forms import FILE, KEPT, Form
from web.pages.knn_form import KnnForm
from web.pages.musicgen_form import MusicgenForm
from web.pages.samples import describe_music
from web.requests import read_list_query

FORMS: Final[Mapping[str, type[Form]]] = {Kind.KNN: KnnForm, Kind.MUSICGEN: MusicgenForm}
_ANY_KIND: Final = f"/<any({', '.join(FORMS)}):kind>"


@blueprint.get("/")
def show_home() -> str:
    """Show the way to each form, and the newest jobs."""
    with get_services().database.reading() as session:
        jobs, _ = write_page(session, JobFilter(), limit=10)
    return render_template("pages/home.html", jobs=jobs)


@blueprint.get(_ANY_KIND)
def show_form(kind: str) -> str:
    """Show the form of a kind of job."""
    return _render_form(kind, FORMS[kind].make_untouched(get_services().settings), {})


@blueprint.post(_ANY_KIND)
def submit_form(kind: str) -> Response | tuple[str, int]:
    """Queue a job, or show the form again with what is wrong."""
    services = get_services()
    settings = services.settings
    request.max_form_memory_size = settings.body_bytes_most
    request.max_content_length = settings.upload_bytes_most + settings.body_bytes_most + MULTIPART_BYTES
    uploads, problems = _store_files(services)
    form = FORMS[kind].read(request.form, [*request.form.getlist(KEPT), *uploads])
    body = form.write_body()
    problems = problems or list_unstorable(body)
    if not problems:
        try:
            job, _ = submission.submit(services, body)
        except RequestInvalidError as error:
            problems = error.problems
        else:
            return redirect(url_for("pages.show_job", job_id=job.id), 303)
    return _render_form(kind, form, form.place_problems(problems)), RequestInvalidError.status


@blueprint.get("/jobs")
def show_jobs() -> str:
    """Show the list of jobs."""
    with get_services().database.reading() as session:
        documents, next_cursor = write_page(session, *read_list_query())
    return render_template("pages/jobs.html", jobs=documents, next_cursor=next_cursor, filter=request.args)


@blueprint.get("/jobs/<uuid:job_id>")
def show_job(job_id: UUID) -> str:
    """Show a job; the page loads itself again until the job has ended."""
    services = get_services()
    with services.database.reading() as session:
        job = view_job(session, str(job_id)).document
    music = describe_music(job, services.settings) if job["kind"] == Kind.MUSICGEN else None
    return render_template("pages/job.html", job=job, ended=job["state"] in ENDED, music=music)


@blueprint.post("/jobs/<uuid:job_id>/cancel")
def cancel_job(job_id: UUID) -> Response:
    """Cancel a job and show it."""
    transitions.cancel(get_services().database, str(job_id))
    return redirect(url_for("pages.show_job", job_id=job_id), 303)


@blueprint.post("/jobs/<uuid:job_id>/retry")
def retry_job(job_id: UUID) -> Response:
    """Queue a job again and show the new one."""
    job = submission.retry(get_services(), str(job_id))
    return redirect(url_for("pages.show_job", job_id=job.id), 303)


def _store_files(services: Services) -> tuple[list[str], list[Problem]]:
    """Store the files of a form, in the order of their names.

    Returns
    -------
    uploads, problems
        The identifiers of those that were stored, and what is wrong with the others.
    """
    uploads: list[str] = []
    problems: list[Problem] = []
    # By name, since the order in which browsers send them is nobody's choice.
    files = sorted(
        (file for file in request.files.getlist(FILE) if file.filename), key=lambda file: file.filename or ""
    )
    for file in files:
        try:
            uploads.append(store(services, file.stream, file.filename, file.mimetype).id)
        except RequestInvalidError as error:
            which = f"{file.filename} " if len(files) > 1 else ""
            problems += [Problem(problem.pointer, which + problem.detail) for problem in error.problems]
    return uploads, problems


def _render_form(kind: str, form: Form, problems: Mapping[str, str]) -> str:
    services = get_services()
    ids = [upload_id for upload_id in form.uploads if is_id(upload_id)]
    with services.database.reading() as session:
        found = queries.find_uploads(session, ids)
    return render_template(
        f"pages/{kind}.html",
        kind=kind,
        fields=form.fields,
        problems=problems,
        choices=form.CHOICES,
        kept=[found[upload_id] for upload_id in ids if upload_id in found],
        **form.list_notes(services.settings),
    )
