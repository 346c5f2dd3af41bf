"""What can be done with a sample on a music job's page: heard elsewhere, and gone on from."""

import io
from http import HTTPStatus
from typing import IO, Any
from uuid import UUID

from flask import redirect, request, send_file, url_for
from werkzeug import Response

from shared.database import queries
from shared.database.tables import Artifact
from shared.errors import NotFoundError
from shared.kinds.musicgen.parameters import Format
from shared.schemas import responses
from shared.services import Services
from web.auth import get_owner
from web.context import get_services
from web.kinds.musicgen.form import MusicgenForm
from web.kinds.musicgen.samples import Sample, list_samples
from web.pages import blueprint
from web.pages.forms import KEPT
from web.pages.new_job import find_kept, render_form
from web.serializers import view_job
from web.uploads import store

_SAMPLE = "/jobs/<uuid:job_id>/samples/<int:number>"


@blueprint.get(f"{_SAMPLE}.<any({', '.join(Format)}):audio_format>")
def download_sample(job_id: UUID, number: int, audio_format: str) -> Response:
    """Send a sample in a format of the listener's choice."""
    services = get_services()
    _, _, artifact = _find(services, job_id, number)
    wanted = Format(audio_format)
    name = f"{artifact.name.rpartition('.')[0]}.{wanted}"
    if name == artifact.name:
        return redirect(url_for("api.get_artifact", job_id=job_id, name=name, download=1), HTTPStatus.SEE_OTHER)
    with services.files.open(artifact.key) as file:
        content, media_type = _convert(file, wanted)
    return send_file(io.BytesIO(content), media_type, as_attachment=True, download_name=name)


@blueprint.post(f"{_SAMPLE}/continue")
def continue_sample(job_id: UUID, number: int) -> Response:
    """Keep a sample as an upload, and go on to the form with it as the clip to continue."""
    services = get_services()
    _, _, artifact = _find(services, job_id, number)
    with services.files.open(artifact.key) as file:
        upload = store(services, file, artifact.name, get_owner())
    filled: dict[str, Any] = {"job_id": job_id, "number": number, KEPT: upload.id}
    return redirect(url_for("pages.show_continuation", **filled), HTTPStatus.SEE_OTHER)


@blueprint.get(f"{_SAMPLE}/continue")
def show_continuation(job_id: UUID, number: int) -> str:
    """Show the form with the prompt and the model of a sample, to continue what was kept of it."""
    services = get_services()  # which know the prompt: the longest would not fit into an address
    job, sample, _ = _find(services, job_id, number)
    form = MusicgenForm.make_blank(services.settings)
    form.kept = find_kept(services, request.args.getlist(KEPT))
    form.prompts.data = sample.prompt or ""
    form.model.data = job["params"]["model"]
    return render_form(form)


def _find(services: Services, job_id: UUID, number: int) -> tuple[responses.Job, Sample, Artifact]:
    with services.database.reading() as session:
        job = view_job(session, str(job_id)).document
        samples = list_samples(job)
        if number >= len(samples) or "audio" not in samples[number].files:
            raise NotFoundError(f"Job {job_id} has no sample {number}.")
        artifact = queries.get_artifact(session, str(job_id), samples[number].files["audio"]["name"])
    if services.files.stat(artifact.key) is None:
        raise NotFoundError(f"The file {artifact.name!r} of job {job_id} is gone; retry the job to make it anew.")
    return job, samples[number], artifact


def _convert(file: IO[bytes], wanted: Format) -> tuple[bytes, str]:
    from shared.kinds.musicgen.audio_encoding import convert  # noqa: PLC0415 - loads SciPy, which few requests need

    return convert(file, wanted)
