"""The actions on the page of a music job.

A user can download a sample in another format, or continue a sample.
"""

import io
from http import HTTPStatus
from typing import IO, Any, Final
from uuid import UUID

from flask import Blueprint, redirect, request, send_file, url_for
from werkzeug import Response

from shared.database import queries
from shared.database.tables import Artifact
from shared.errors import NotFoundError
from shared.jobs import Kind
from shared.kinds.musicgen.parameters import Format
from shared.schemas import responses
from shared.services import Services
from shared.texts import text
from web.auth import get_owner
from web.context import get_services
from web.kinds.job_form import UPLOAD_FIELD, render_form
from web.kinds.musicgen.form import MusicgenForm
from web.kinds.musicgen.result import Sample, list_samples
from web.serializers import view_job
from web.stored_files import set_filename
from web.uploads import find_uploads, read_chunks, store

blueprint = Blueprint(Kind.MUSICGEN, __name__, static_folder="static", static_url_path=f"/static/{Kind.MUSICGEN}")
_SAMPLE: Final = "/jobs/<uuid:job_id>/samples/<int:number>"


@blueprint.get(f"{_SAMPLE}.<any({', '.join(Format)}):audio_format>")
def download_sample(job_id: UUID, number: int, audio_format: str) -> Response:
    """Send a sample in the chosen format."""
    services = get_services()
    job, sample, artifact = _find_sample(services, job_id, number)
    wanted = Format(audio_format)
    if wanted == job["params"]["format"]:
        address = url_for("api.get_artifact", job_id=job_id, name=artifact.name, download=1)
        return redirect(address, HTTPStatus.SEE_OTHER)
    with services.files.open(artifact.key) as file:
        content, media_type = _convert(file, wanted)
    response = send_file(io.BytesIO(content), media_type)
    stem = sample.files["audio"]["filename"].rpartition(".")[0]
    set_filename(response, f"{stem}.{wanted.extension}", as_attachment=True)
    return response


@blueprint.post(f"{_SAMPLE}/continue")
def continue_sample(job_id: UUID, number: int) -> Response:
    """Store a sample as an upload, and redirect to the form with this upload as the clip to continue."""
    services = get_services()
    _, _, artifact = _find_sample(services, job_id, number)
    with services.files.open(artifact.key) as file:
        upload = store(services, read_chunks(file), artifact.name, get_owner())
    values: dict[str, Any] = {"job_id": job_id, "number": number, UPLOAD_FIELD: upload.id}
    return redirect(url_for(".show_continuation", **values), HTTPStatus.SEE_OTHER)


@blueprint.get(f"{_SAMPLE}/continue")
def show_continuation(job_id: UUID, number: int) -> str:
    """Show the form with a sample's prompt and model, and with the sample's uploaded copy as the clip to continue."""
    services = get_services()
    # The prompt is read from the job, because the longest prompts do not fit into an address.
    job, sample, _ = _find_sample(services, job_id, number)
    form = MusicgenForm.make_blank(services)
    form.uploads = find_uploads(services, request.args.getlist(UPLOAD_FIELD), get_owner())
    form.prompts.data = sample.prompt or ""
    form.model.data = job["params"]["model"]
    return render_form(form)


def _find_sample(services: Services, job_id: UUID, number: int) -> tuple[responses.Job, Sample, Artifact]:
    with services.database.reading() as session:
        job = view_job(session, str(job_id)).document
        samples = list_samples(job) if job["kind"] == Kind.MUSICGEN else []
        if number >= len(samples) or "audio" not in samples[number].files:
            raise NotFoundError(text("sample-not-found", job=str(job_id), sample=number))
        artifact = queries.get_artifact(session, str(job_id), samples[number].files["audio"]["name"])
    if services.files.stat(artifact.key) is None:
        raise NotFoundError(text("artifact-file-missing", name=artifact.name, job=str(job_id)))
    return job, samples[number], artifact


def _convert(file: IO[bytes], wanted: Format) -> tuple[bytes, str]:
    from shared.kinds.musicgen.audio_encoding import convert  # noqa: PLC0415 - loads SciPy, which few requests need

    return convert(file, wanted)
