"""The page of a job, and its buttons."""

from http import HTTPStatus
from typing import Final
from uuid import UUID

from flask import redirect, render_template, request, url_for
from werkzeug import Response

from shared.database import transitions, worker_queries
from shared.jobs import ENDED, State
from shared.schemas import responses
from shared.submission import delete, retry
from web.auth import get_origin
from web.context import get_services
from web.kinds import find_pages
from web.pages import blueprint
from web.pages.safe_redirect import choose_next
from web.serializers import view_job

NEW_SEED_BUTTON: Final = "new_seed"
"""The name of the button that runs a job again with another seed."""
_JOB: Final = "/jobs/<uuid:job_id>"


@blueprint.get(_JOB)
def show_job(job_id: UUID) -> str:
    """Show a job; a script updates the page until the job has ended."""
    services = get_services()
    with services.database.reading() as session:
        job = view_job(session, str(job_id)).document
        has_worker = job["state"] != State.QUEUED or worker_queries.has_worker(session, job["kind"], job["device"])
    pages = find_pages(job["kind"])
    return render_template(
        "pages/job.html",
        job=job,
        pages=pages,
        ended=job["state"] in ENDED,
        has_worker=has_worker,
        speed=_estimate_speed(job),
        view=pages.view_result(services, job) if pages and job["result"] is not None else None,
    )


@blueprint.post(f"{_JOB}/cancel")
def cancel_job(job_id: UUID) -> Response:
    """Cancel a job.

    Then redirect to the page that the form names in ``next``, or to the page of the job if no valid page is named.
    """
    transitions.cancel(get_services().database, str(job_id))
    return _redirect_next(job_id)


@blueprint.post(f"{_JOB}/retry")
def retry_job(job_id: UUID) -> Response:
    """Submit a new job with the parameters of an ended job, and with another seed if that button was pressed.

    Then redirect to the page that the form names in ``next``, or to the page of the new job if no valid page is named.
    """
    job, _ = retry.retry_job(get_services(), str(job_id), get_origin(), new_seed=NEW_SEED_BUTTON in request.form)
    return _redirect_next(job.id)


@blueprint.post(f"{_JOB}/delete")
def delete_job(job_id: UUID) -> Response:
    """Delete an ended job and its files, and show the list of jobs."""
    delete.delete_job(get_services(), str(job_id))
    return redirect(url_for("pages.show_jobs"), HTTPStatus.SEE_OTHER)


def _redirect_next(job_id: UUID | str) -> Response:
    default = url_for("pages.show_job", job_id=job_id)
    return redirect(choose_next(request.form.get("next"), default, request.script_root), HTTPStatus.SEE_OTHER)


def _estimate_speed(job: responses.Job) -> float | None:
    """Estimate how many units of the stage are done per second; ``None`` if the speed is unknown."""
    eta_s, progress = job["eta_s"], job["progress"]
    return (progress["total"] - progress["done"]) / eta_s if eta_s else None
