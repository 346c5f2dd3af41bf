"""The forms' views: a form in, a job queued; or the form again, filled in, with what is wrong at each field."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from flask import redirect, render_template, request, url_for
from werkzeug import Response

from shared.database import queries
from shared.database.tables import Upload
from shared.errors import LimitError, NotFoundError, Problem, RequestInvalidError
from shared.ids import is_id
from shared.schemas.problems import list_unstorable
from shared.services import Services
from shared.submission import submit
from web.auth import get_origin, get_owner
from web.context import get_services
from web.kinds.knn.form import KnnForm
from web.kinds.musicgen.form import MusicgenForm
from web.pages import blueprint
from web.pages.forms import FILE, KEPT, JobForm
from web.stored_files import send_stored_file
from web.uploads import MULTIPART_BYTES, count_room, store

FORMS: Final[Mapping[str, type[JobForm]]] = {form.KIND: form for form in (KnnForm, MusicgenForm)}
LOOK: Final = "look"
"""The button that sends a form's files to be looked at, and queues nothing."""
_ANY_KIND: Final = f"/<any({', '.join(FORMS)}):kind>"


@blueprint.get(_ANY_KIND)
def show_form(kind: str) -> str:
    """Show the form of a kind of job."""
    return render_form(FORMS[kind].make_blank(get_services().settings))


@blueprint.post(_ANY_KIND)
def submit_form(kind: str) -> Response | str | tuple[str, int]:
    """Queue a job, or show the form again with what is wrong."""
    services = get_services()
    form = FORMS[kind]()
    uploads, problems = _store_files(services)
    kept = find_kept(services, request.form.getlist(KEPT))
    form.kept = [*kept, *uploads]
    if len(kept) < len(request.form.getlist(KEPT)):
        problems.append(Problem(f"/{FILE}", "a file that came before is no longer here; choose it again"))
    if LOOK in request.form and not problems:
        return render_form(form)
    body, status = form.build_body(), RequestInvalidError.status
    problems = problems or list_unstorable(body)
    if not problems:
        try:
            job, _ = submit.submit_job(services, body, origin=get_origin())
        except RequestInvalidError as error:
            problems = error.problems
        except LimitError as error:
            problems, status = [Problem("", error.detail)], error.status
        else:
            return redirect(url_for("pages.show_job", job_id=job.id), 303)
    form.place_problems(problems)
    return render_form(form), status


@blueprint.get("/uploads/<uuid:upload_id>")
def send_upload(upload_id: UUID) -> Response:
    """Send a file that came with a form: to a player if it is audio, or else to be kept."""
    services = get_services()
    kept = find_kept(services, [str(upload_id)])
    if not kept or services.files.stat(kept[0].key) is None:
        raise NotFoundError(f"There is no upload {upload_id}.")
    media_type = kept[0].media_type
    return send_stored_file(
        services.files,
        kept[0].key,
        media_type,
        as_attachment=not media_type.startswith("audio/"),
        download_name=kept[0].filename or str(upload_id),
        etag=kept[0].sha256,
        conditional=True,
    )


def let_files_in() -> None:
    """Raise the limits of a request that brings a form with files, before anything of it is read."""
    # A form of another type has no files, and is read into memory whole.
    if request.endpoint == "pages.submit_form" and request.mimetype == "multipart/form-data":
        services = get_services()
        max_text_bytes = services.settings.max_body_bytes
        request.max_form_memory_size = max_text_bytes
        request.max_content_length = count_room(services, get_owner()) + max_text_bytes + MULTIPART_BYTES


def find_kept(services: Services, upload_ids: list[str]) -> list[Upload]:
    """Return the uploads that are there, and theirs who asks."""
    ids = [upload_id for upload_id in upload_ids if is_id(upload_id)]
    with services.database.reading() as session:
        found = queries.find_uploads(session, ids, get_owner())
    return [found[upload_id] for upload_id in ids if upload_id in found]


def _store_files(services: Services) -> tuple[list[Upload], list[Problem]]:
    """Store the files of a form, in the order of their names.

    Returns
    -------
    uploads, problems
        Those that were stored, and what is wrong with the others.
    """
    uploads: list[Upload] = []
    problems: list[Problem] = []
    # By name, since the order in which browsers send them is nobody's choice.
    files = sorted(
        (file for file in request.files.getlist(FILE) if file.filename), key=lambda file: file.filename or ""
    )
    for file in files:
        try:
            uploads.append(store(services, file.stream, file.filename, get_owner()))
        except RequestInvalidError as error:
            which = f"{file.filename} " if len(files) > 1 else ""
            problems += [Problem(problem.pointer, which + problem.detail) for problem in error.problems]
    return uploads, problems


def render_form(form: JobForm) -> str:
    """Show a form as it stands."""
    notes = form.list_notes(get_services().settings)
    return render_template(f"{form.KIND}/form.html", form=form, **notes)
