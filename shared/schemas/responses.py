"""What the API returns, one type per document. Types alone: nothing is checked when a response is built."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on only

from shared.jobs import AUTO, DeviceClass, Kind, State
from shared.schemas.documented import documented

Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Bytes = Annotated[int, Field(ge=0)]


@documented
class Progress(TypedDict):
    """The progress of a job within its current stage."""

    done: int
    total: int
    """0 as long as it is not known."""
    unit: str | None
    stage: str | None


@documented
class JobError(TypedDict):
    """Why a job has no result."""

    type: str
    """The kind of error, for programs."""
    title: str
    detail: str


@documented
class Webhook(TypedDict):
    """Where messages about a job are sent."""

    url: str
    events: list[State]
    """The states about which messages are sent when the job enters them."""


@documented
class Artifact(TypedDict):
    """A file that a job produced."""

    name: str
    media_type: str
    bytes: Bytes
    sha256: Sha256
    url: str
    """The path of the file on this host."""


@documented
class Job(TypedDict):
    """A job at one moment."""

    id: Id
    kind: Kind
    state: State
    device: Annotated[str, Field(json_schema_extra={"enum": [AUTO, *DeviceClass]})]
    """The device class that runs the job, or the requested one as long as none is chosen."""
    engine: str | None
    """The backend that runs the job."""
    params: dict[str, Any]
    """Complete: every default is filled in."""
    labels: dict[str, str]
    priority: int
    progress: Progress
    queue_position: int | None
    """How many jobs are ahead of it; null unless the job is queued."""
    eta_s: float | None
    """Estimated seconds to the end of the current stage, from the speed within it; null unless the job is running."""
    attempt: int
    max_attempts: int
    cancel_requested: bool
    worker: str | None
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    result: dict[str, Any] | None
    """Null unless the job succeeded."""
    error: JobError | None
    """Null unless the job failed or was cancelled."""
    retry_of: Id | None
    """The job that this one repeats."""
    webhook: Webhook | None
    artifacts: list[Artifact]


@documented
class JobList(TypedDict):
    """A page of the list of jobs, newest first."""

    jobs: list[Job]
    next_cursor: Id | None
    """The `cursor` of the next page; null on the last page."""


@documented
class Upload(TypedDict):
    """An uploaded file; job parameters refer to it by its id."""

    id: Id
    bytes: Bytes
    sha256: Sha256
    media_type: str
    filename: str | None


@documented
class Device(TypedDict):
    """A device class with its workers and its load."""

    device: DeviceClass
    workers_alive: int
    engines: dict[str, str]
    """The backend that runs each kind of job."""
    precisions: dict[str, list[str]]
    """The precisions that live workers offer for each kind of job that has a choice."""
    queued: int
    running: int


@documented
class DeviceList(TypedDict):
    """The device classes, best first."""

    devices: list[Device]


@documented
class FieldProblem(TypedDict):
    """One thing that is wrong with a request."""

    pointer: str
    """JSON pointer (RFC 6901) of the field."""
    code: str
    """Stable name of the problem, for programs."""
    detail: str
    """What is wrong and what would be right."""


@documented
class Problem(TypedDict):
    """Why a request failed (RFC 9457)."""

    type: str
    """Stable name of the kind of problem, for programs."""
    title: str
    status: int
    detail: str
    errors: NotRequired[list[FieldProblem]]
    """The fields that are not valid."""


@documented
class Liveness(TypedDict):
    """The process answers."""

    status: Literal["alive"]


@documented
class Readiness(TypedDict):
    """Whether the service can accept jobs."""

    status: Literal["ready", "not ready"]
    unreachable: NotRequired[list[Literal["database", "broker"]]]
    """What does not answer."""
