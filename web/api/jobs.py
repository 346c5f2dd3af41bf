"""The calls that submit, read, list, cancel, retry and delete jobs, and that download the files of jobs."""

import json
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from flask import Response, jsonify, make_response, request, url_for
from werkzeug import Response as AnyResponse

from shared.database import queries, transitions
from shared.errors import NotFoundError
from shared.schemas import responses
from shared.submission import delete, retry, submit
from shared.texts import text
from web.api import blueprint
from web.auth import get_origin
from web.conditions import knows_version, require_version
from web.context import get_context, get_services
from web.inspections import call_inspected
from web.job_archive import StoredEntry, stream_archive
from web.list_query import read_list_query, read_retry_query
from web.long_poll import read_wait_s
from web.request_input import read_idempotency_key, read_json
from web.serializers import JobView, name_download, serialize_page, view_job
from web.stored_files import send_stored_file, set_filename

POLL_AFTER_S: Final = "1"


@blueprint.post("/jobs")
def submit_job() -> Response:
    """Submit a job. With ``Prefer: wait``, the response comes when the job has ended."""
    services = get_services()
    given = (services, read_json(), read_idempotency_key(), get_origin())
    job, created = call_inspected(services, partial(submit.submit_job, *given))
    view, waited_s = get_context().long_poll_slots.wait_for(services, job.id, read_wait_s(), lambda view: view.ended)
    return _respond(view, 202 if created else 200, waited_s)


@blueprint.get("/jobs/<uuid:job_id>")
def get_job(job_id: UUID) -> Response:
    """Read a job. With ``Prefer: wait``, wait for a change, unless ``If-None-Match`` names an earlier version."""
    services = get_services()
    with services.database.reading() as session:
        before = view_job(session, str(job_id))
    known = request.if_none_match
    view, waited_s = before, 0
    if (wait_s := read_wait_s()) and (not known or known.contains(before.etag)):
        view, waited_s = get_context().long_poll_slots.wait_for(
            services, before.id, wait_s, lambda now: now.etag != before.etag
        )
    require_version(view.etag)
    return _respond(view, 304 if knows_version(view.etag) else 200, waited_s)


@blueprint.get("/jobs")
def list_jobs() -> responses.JobList:
    """List jobs, newest first."""
    with get_services().database.reading() as session:
        documents, next_cursor = serialize_page(session, *read_list_query(request.args.to_dict(flat=False)))
    return {"jobs": documents, "next_cursor": next_cursor}


@blueprint.post("/jobs/<uuid:job_id>/cancel")
def cancel_job(job_id: UUID) -> Response:
    """Cancel a queued job at once, or request a running job to stop."""
    services = get_services()
    transitions.cancel(services.database, str(job_id))
    return _show(str(job_id), 202)


@blueprint.post("/jobs/<uuid:job_id>/retry")
def retry_job(job_id: UUID) -> Response:
    """Submit a new job with the parameters and the seed of an ended job, or with another seed."""
    services, key = get_services(), read_idempotency_key()
    new_seed = read_retry_query(request.args.to_dict(flat=False)).seed is not None
    repeat = partial(retry.retry_job, services, str(job_id), get_origin(), idempotency_key=key, new_seed=new_seed)
    job, created = call_inspected(services, repeat)
    return _show(job.id, 202 if created else 200)


@blueprint.delete("/jobs/<uuid:job_id>")
def delete_job(job_id: UUID) -> tuple[str, int]:
    """Delete an ended job and its files."""
    delete.delete_job(get_services(), str(job_id))
    return "", 204


@blueprint.get("/jobs/<uuid:job_id>/artifacts/<name>")
def get_artifact(job_id: UUID, name: str) -> AnyResponse:
    """Download a file of a job, whole or in ranges."""
    services = get_services()
    with services.database.reading() as session:
        artifact = queries.get_artifact(session, str(job_id), name)
        filename = name_download(queries.get_job(session, str(job_id)), name)
    try:
        response = send_stored_file(
            services.files,
            artifact.key,
            artifact.media_type,
            filename,
            as_attachment=request.args.get("download") == "1",
            etag=artifact.sha256,
            max_age=0,
        )
    except FileNotFoundError as error:
        raise NotFoundError(text("artifact-file-missing", name=name, job=str(job_id))) from error
    # An SVG file is a document that could contain scripts. Our SVG files contain no scripts, and with this header
    # browsers would not run any.
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    return response


@blueprint.get("/jobs/<uuid:job_id>/archive")
def get_archive(job_id: UUID) -> AnyResponse:
    """Download all files of a job in one zip archive, with ``job.json``, which has the parameters and the result."""
    services = get_services()
    with services.database.reading() as session:
        view = view_job(session, str(job_id))
        keys = {artifact.name: artifact.key for artifact in queries.list_artifacts_of(session, view.id)}
    artifacts = view.document["artifacts"]
    if not artifacts:
        raise NotFoundError(text("job-without-files", job=view.id))
    missing = next((artifact for artifact in artifacts if services.files.stat(keys[artifact["name"]]) is None), None)
    if missing is not None:
        raise NotFoundError(text("artifact-file-missing", name=missing["name"], job=view.id))
    require_version(view.etag)
    if knows_version(view.etag):
        response = AnyResponse(status=304)
    else:
        document = json.dumps(view.document, indent=2, ensure_ascii=False).encode()
        entries = [StoredEntry(each["filename"], keys[each["name"]], each["bytes"]) for each in artifacts]
        written_at = datetime.fromisoformat(view.document["finished_at"] or view.document["created_at"])
        parts = stream_archive(services.files, ("job.json", document), entries, written_at)
        response = AnyResponse(parts, mimetype="application/zip", direct_passthrough=True)
        set_filename(response, f"{view.document['kind']} {view.id}.zip", as_attachment=True)
    response.set_etag(view.etag)
    response.cache_control.private = True
    response.cache_control.max_age = 0
    return response


def _show(job_id: str, status: int) -> Response:
    with get_services().database.reading() as session:
        return _respond(view_job(session, job_id), status)


def _respond(view: JobView, status: int, waited_s: int = 0) -> Response:
    response = make_response(jsonify(view.document), status)
    response.set_etag(view.etag)
    response.headers["Cache-Control"] = "no-cache"
    if request.endpoint != "api.get_job":
        response.headers["Location"] = url_for("api.get_job", job_id=view.id)
    if not view.ended:
        response.headers["Retry-After"] = POLL_AFTER_S
    if waited_s:
        response.headers["Preference-Applied"] = f"wait={waited_s}"
    return response
