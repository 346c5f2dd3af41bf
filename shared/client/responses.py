"""The responses of the service; fields that this version of the client does not know are kept."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, StringConstraints

from shared.inspection.upload_kinds import InspectionState
from shared.jobs import ENDED, State


class Response(BaseModel):
    """The base class of a response or of a part of a response."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Message(Response):
    """A message for people, with a code for programs."""

    code: str
    detail: str


class Inspection(Response):
    """How far the inspection of an upload is; if it is ``ready``, the other fields say what was found in the file."""

    state: str
    problem: Message | None


class Upload(Response):
    """An uploaded file; the parameters of a job refer to an upload by its ``id``."""

    id: str
    bytes: int
    sha256: str
    media_type: str
    filename: str | None
    created_at: datetime
    kept_until: datetime | None
    kind: str
    inspection: Inspection | None
    """``None`` if uploads of this kind are not inspected."""

    @property
    def pending(self) -> bool:
        """Whether the upload is not inspected yet."""
        return self.inspection is not None and self.inspection.state == InspectionState.PENDING


class UploadPage(Response):
    """One page of the list of uploads."""

    uploads: tuple[Upload, ...]
    next_cursor: str | None


class Progress(Response):
    """The progress of a job; stage and unit are ``None`` while the job waits for a worker.

    A job that waits for a download is queued and has the progress of the download.
    """

    stage: str | None
    done: int
    total: int
    unit: str | None


class Failure(Response):
    """Why a job failed or was cancelled."""

    type: str
    title: str
    detail: str


class StateChange(Response):
    """The state that a job entered. A running job's state is sent again when its cancellation is requested."""

    state: State
    attempt: int
    worker: str | None
    cancel_requested: bool
    error: Failure | None

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.state in ENDED


class Artifact(Response):
    """A file that a job produced."""

    name: str
    media_type: str
    bytes: NonNegativeInt
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]

    @property
    def download_name(self) -> str:
        """The name that the file gets when it is downloaded.

        Events do not have it, since they come before the result of the job.
        """
        filename = (self.model_extra or {}).get("filename")
        return self.name if filename is None else str(filename)


class Job(Response):
    """A job at one moment."""

    id: str
    kind: str
    state: State
    device: str
    engine: str | None
    params: Mapping[str, Any]
    labels: Mapping[str, str]
    priority: int
    progress: Progress
    queue_position: int | None
    eta_s: float | None
    attempt: int
    max_attempts: int
    cancel_requested: bool
    worker: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    result: Mapping[str, Any] | None
    error: Failure | None
    retry_of: str | None
    artifacts: tuple[Artifact, ...]

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.state in ENDED


class Page(Response):
    """One page of the list of jobs."""

    jobs: tuple[Job, ...]
    next_cursor: str | None
