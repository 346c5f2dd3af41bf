"""The views: each parses, calls one function, and renders."""

from uuid import UUID

from flask import redirect, render_template, request, url_for
from werkzeug import Response

from shared import submission, transitions
from shared.errors import RequestInvalidError
from shared.jobs import ENDED
from shared.queries import JobFilter
from web.api.uploads import MULTIPART_BYTES, store
from web.context import get_services
from web.documents import view_job, write_page
from web.pages import blueprint, forms
from web.requests import read_list_query


@blueprint.get("/")
def show_home() -> str:
    """Show the form and the newest jobs."""
    return _render_home(forms.DEFAULTS, {})


@blueprint.post("/knn")
def submit_knn() -> Response | tuple[str, int]:
    """Queue a knn job, or show the form again with what is wrong."""
    services = get_services()
    request.max_content_length = services.settings.upload_bytes_most + MULTIPART_BYTES
    fields = {name: request.form.get(name, "") for name in forms.DEFAULTS if name in request.form or name != "header"}
    file = request.files.get("file")
    try:
        upload = store(services, file.stream, file.filename, file.mimetype) if file and file.filename else None
        job, _ = submission.submit(services, forms.write_body(fields, upload.id if upload else None))
    except RequestInvalidError as error:
        return _render_home(fields, forms.place_problems(error.problems)), error.status
    return redirect(url_for("pages.show_job", job_id=job.id), 303)


@blueprint.get("/jobs")
def show_jobs() -> str:
    """Show the list of jobs."""
    with get_services().database.reading() as session:
        documents, next_cursor = write_page(session, *read_list_query())
    return render_template("pages/jobs.html", jobs=documents, next_cursor=next_cursor, filter=request.args)


@blueprint.get("/jobs/<uuid:job_id>")
def show_job(job_id: UUID) -> str:
    """Show a job; the page loads itself again until the job has ended."""
    with get_services().database.reading() as session:
        job = view_job(session, str(job_id)).document
    return render_template("pages/job.html", job=job, ended=job["state"] in ENDED)


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


def _render_home(fields: object, problems: object) -> str:
    with get_services().database.reading() as session:
        jobs, _ = write_page(session, JobFilter(), limit=10)
    return render_template("pages/home.html", fields=fields, problems=problems, choices=forms.CHOICES, jobs=jobs)
