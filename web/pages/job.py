"""A job's page, and what can be done with a job there."""

from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from flask import redirect, render_template, request, url_for
from werkzeug import Response

from shared.database import queries, transitions
from shared.jobs import ENDED, Kind, State
from shared.kinds.musicgen.parameters import Format
from shared.maintenance import cleanup
from shared.schemas import responses
from shared.submission import submit
from web.auth import get_origin
from web.context import get_services
from web.kinds.knn.predictions import read_predictions
from web.kinds.musicgen.samples import describe_music
from web.pages import blueprint
from web.pages.safe_redirect import choose_next
from web.serializers import view_job

SVG: Final = "image/svg+xml"
_JOB: Final = "/jobs/<uuid:job_id>"


@blueprint.get(_JOB)
def show_job(job_id: UUID) -> str:
    """Show a job; a script keeps the page true while the job goes on."""
    services = get_services()
    with services.database.reading() as session:
        job = view_job(session, str(job_id)).document
        taken = job["state"] != State.QUEUED or queries.has_worker(session, job["kind"], job["device"])
        predictions = read_predictions(services, session, job) if job["kind"] == Kind.KNN else None
    music = describe_music(job, services.settings) if job["kind"] == Kind.MUSICGEN else None
    return render_template(
        "pages/job.html",
        job=job,
        ended=job["state"] in ENDED,
        taken=taken,
        pace=_find_pace(job),
        music=music,
        predictions=predictions,
        pictures=[artifact for artifact in job["artifacts"] if artifact["media_type"] == SVG],
        formats=[*Format],
    )


@blueprint.post(f"{_JOB}/cancel")
def cancel_job(job_id: UUID) -> Response:
    """Cancel a job and show it, or the page that it was cancelled on."""
    transitions.cancel(get_services().database, str(job_id))
    return _go_on(job_id)


@blueprint.post(f"{_JOB}/retry")
def retry_job(job_id: UUID) -> Response:
    """Queue a job again and go on as after cancelling; music with another seed, if that is asked for."""
    changes: dict[str, Any] = {"seed": None} if "new_seed" in request.form else {}
    job = submit.retry_job(get_services(), str(job_id), get_origin(), changes)
    return _go_on(job.id)


@blueprint.post(f"{_JOB}/delete")
def delete_job(job_id: UUID) -> Response:
    """Forget an ended job and its files, and show the list."""
    cleanup.delete_job(get_services(), str(job_id))
    return redirect(url_for("pages.show_jobs"), HTTPStatus.SEE_OTHER)


def _go_on(job_id: UUID | str) -> Response:
    shown = url_for("pages.show_job", job_id=job_id)
    return redirect(choose_next(request.form.get("next"), shown), HTTPStatus.SEE_OTHER)


def _find_pace(job: responses.Job) -> float | None:
    """Return how much of the stage is done per second; ``None`` where nobody can tell."""
    eta_s, progress = job["eta_s"], job["progress"]
    return (progress["total"] - progress["done"]) / eta_s if eta_s else None
