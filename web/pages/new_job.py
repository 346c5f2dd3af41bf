"""The views of the forms. A valid form queues a job, and an invalid form is shown again with its problems."""

from typing import Any, Final
from uuid import UUID

from flask import Flask, redirect, request, url_for
from werkzeug import Response

from shared.database.tables import Job, Upload
from shared.errors import LimitError, NotFoundError, Problem, RequestInvalidError, UploadPendingError
from shared.jobs import Kind
from shared.schemas.problems import list_unacceptable
from shared.services import Services
from shared.submission import submit
from shared.texts import text
from web.auth import get_origin, get_owner
from web.context import get_services
from web.inspections import hold_inspected
from web.kinds import PAGES
from web.kinds.job_form import FILE_FIELD, UPLOAD_FIELD, render_form
from web.pages import blueprint
from web.stored_files import send_stored_file
from web.uploads import MULTIPART_OVERHEAD_BYTES, count_free_bytes, find_uploads, read_chunks, store

PREVIEW_BUTTON: Final = "preview"
"""The name of the button that uploads the files of a form and shows them, but queues no job."""
_ANY_KIND: Final = f"/<any({', '.join(PAGES)}):kind>"


def init_app(app: Flask) -> None:
    """Register a function that raises the size limits of forms with files. It runs before CSRFProtect reads a form."""
    app.before_request(_raise_size_limits)


@blueprint.get(_ANY_KIND)
def show_form(kind: str) -> str:
    """Show the form of a kind of job."""
    return render_form(PAGES[Kind(kind)].form.make_blank(get_services()))


@blueprint.post(_ANY_KIND)
def submit_form(kind: str) -> Response | str | tuple[str, int]:
    """Queue a job, or show the form again with its problems."""
    services = get_services()
    form = PAGES[Kind(kind)].form()
    sent, problems = _store_files(services)
    earlier_ids = request.form.getlist(UPLOAD_FIELD)
    earlier = find_uploads(services, earlier_ids, get_owner())
    form.uploads = [*earlier, *sent]
    if len(earlier) < len(earlier_ids):
        problems.append(Problem(f"/{FILE_FIELD}", text("form-upload-missing")))
    if (PREVIEW_BUTTON in request.form or form.is_outdated) and not problems:
        return render_form(form)
    body, status = form.build_body(), RequestInvalidError.status
    problems = problems or list_unacceptable(body)
    if not problems:
        try:
            job, _ = _submit(services, body)
        except RequestInvalidError as error:
            problems = error.problems
        except (LimitError, UploadPendingError) as error:
            problems, status = [Problem("", error.text)], error.status
        else:
            return redirect(url_for("pages.show_job", job_id=job.id), 303)
    form.assign_problems(problems)
    return render_form(form), status


@blueprint.get("/uploads/<uuid:upload_id>")
def send_upload(upload_id: UUID) -> Response:
    """Send an uploaded file: what has sound for a player on a form, and any other file as a download."""
    services = get_services()
    uploads = find_uploads(services, [str(upload_id)], get_owner())
    if not uploads or services.files.stat(uploads[0].key) is None:
        raise NotFoundError(text("uploaded-file-not-found", upload=str(upload_id)))
    (upload,) = uploads
    return send_stored_file(
        services.files,
        upload.key,
        upload.media_type,
        upload.filename or str(upload_id),
        as_attachment=not upload.media_type.startswith(("audio/", "video/")),
        etag=upload.sha256,
    )


def _submit(services: Services, body: dict[str, Any]) -> tuple[Job, bool]:
    """Queue a job. If an upload is not inspected yet, wait for it, with the thread, since the form has stored files."""
    return hold_inspected(services, lambda: submit.submit_job(services, body, origin=get_origin()))


def _raise_size_limits() -> None:
    # A form of any other media type contains no files and is read into memory whole, so its limits are not raised.
    if request.endpoint == "pages.submit_form" and request.mimetype == "multipart/form-data":
        services = get_services()
        max_text_bytes = services.settings.max_body_bytes
        request.max_form_memory_size = max_text_bytes
        request.max_content_length = count_free_bytes(services, get_owner()) + max_text_bytes + MULTIPART_OVERHEAD_BYTES


def _store_files(services: Services) -> tuple[list[Upload], list[Problem]]:
    """Store the files of a form, in the order of their names.

    Returns
    -------
    uploads, problems
        The stored files, and the problems of the files that were not stored.
    """
    uploads: list[Upload] = []
    problems: list[Problem] = []
    # Sorted by name, since users cannot control the order in which browsers send the files.
    files = sorted(
        (file for file in request.files.getlist(FILE_FIELD) if file.filename), key=lambda file: file.filename or ""
    )
    for file in files:
        try:
            uploads.append(store(services, read_chunks(file.stream), file.filename, get_owner()))
        except RequestInvalidError as error:
            problems += error.problems if len(files) == 1 else [_name_file(file.filename, it) for it in error.problems]
    return uploads, problems


def _name_file(filename: str | None, problem: Problem) -> Problem:
    return Problem(problem.pointer, text("form-file-problem", file=filename, problem=problem.detail))
