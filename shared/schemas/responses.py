"""The types of the API's responses, one type per document. At run time, no response is checked against its type."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # pydantic reads typing.TypedDict only from Python 3.12 on

from shared.inspection.upload_kinds import InspectionState, UploadKind
from shared.jobs import AUTO, DeviceClass, Kind, State
from shared.schemas.documented import documented
from shared.tables.facts import ColumnFacts, Scatter, Task

Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Bytes = Annotated[int, Field(ge=0)]


@documented
class Progress(TypedDict):
    """The progress of a job within its current stage."""

    done: int
    total: int
    """0 while the total is not known."""
    unit: str | None
    stage: str | None


@documented
class JobError(TypedDict):
    """Why a job has no result."""

    type: str
    """Stable name of the type of error, for programs."""
    title: str
    detail: str


@documented
class Webhook(TypedDict):
    """Where messages about a job are sent."""

    url: str
    events: list[State]
    """A message is sent when the job enters one of these states."""


@documented
class Artifact(TypedDict):
    """A file that a job produced."""

    name: str
    filename: str
    """The name that the file gets when it is downloaded."""
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
    """The device class that runs the job. Before a device class is chosen: the requested device."""
    engine: str | None
    """The backend that runs the job."""
    params: dict[str, Any]
    """All parameters, including those that have their default value."""
    labels: dict[str, str]
    priority: int
    progress: Progress
    queue_position: int | None
    """How many jobs are ahead of this job in the queue; null unless the job is queued."""
    eta_s: float | None
    """Estimated seconds until the current stage ends, from the speed in this stage; null unless the job is running."""
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
    """The id of the job that this job repeats."""
    webhook: Webhook | None
    artifacts: list[Artifact]


@documented
class JobList(TypedDict):
    """A page of the list of jobs, newest first."""

    jobs: list[Job]
    next_cursor: Id | None
    """The `cursor` of the next page; null on the last page."""


@documented
class Message(TypedDict):
    """A message for people: a warning, a reason, or a problem."""

    code: str
    """Stable name of the message, for programs."""
    detail: str


@documented
class InspectionSummary(TypedDict):
    """How far the inspection of an upload is."""

    state: InspectionState
    problem: Message | None
    """Why the file is unreadable, and what to do; otherwise null."""


@documented
class ExcludedColumn(TypedDict):
    """A column that is left out by default."""

    column: str
    index: int
    reason: Message


@documented
class SuggestedUse(TypedDict):
    """A guess of what the table is for."""

    label: int | None
    """The index of the column to predict."""
    task: Task | None
    exclude: list[ExcludedColumn]


@documented
class Inspection(InspectionSummary):
    """How far the inspection of an upload is. If it is `ready`, the other fields say what was found in the file.

    The fields that are not required are those of a table, or of audio: `duration_s`, `rate`, `channels`, `codec`,
    `format` and `warnings`.
    """

    format: NotRequired[str]
    compressed: NotRequired[bool]
    columns: NotRequired[list[ColumnFacts]]
    rows: NotRequired[int]
    delimiter: NotRequired[str | None]
    """This field, the next three, `sheet` and `sheets` are null or empty if the format has no such property."""
    decimal: NotRequired[str | None]
    thousands: NotRequired[str | None]
    encoding: NotRequired[str | None]
    header: NotRequired[bool]
    """Whether the names of the columns are in the file."""
    sheet: NotRequired[str | None]
    sheets: NotRequired[list[str]]
    comment_lines: NotRequired[int]
    blank_lines: NotRequired[int]
    suggested: NotRequired[SuggestedUse]
    warnings: NotRequired[list[Message]]
    sample: NotRequired[list[list[str]]]
    """The first rows, as in the file."""
    scatter: NotRequired[Scatter | None]
    """Some rows as points; null if there are fewer than two columns of numbers."""
    duration_s: NotRequired[float]
    """The length of the sound that could be decoded, which is not always what the file states."""
    rate: NotRequired[int]
    """The sampling rate in Hz."""
    channels: NotRequired[int]
    codec: NotRequired[str]


@documented
class UploadSummary(TypedDict):
    """An uploaded file. The parameters of a job refer to an upload by its id."""

    id: Id
    bytes: Bytes
    sha256: Sha256
    media_type: str
    filename: str | None
    created_at: Timestamp
    kept_until: Timestamp | None
    """The upload is deleted after this time, unless a queued or running job needs it; null: it is never deleted."""
    kind: UploadKind
    inspection: InspectionSummary | None
    """Null: uploads of this kind are not inspected."""


@documented
class Upload(UploadSummary):
    """An uploaded file, with what was found in it."""

    inspection: Inspection | None  # type: ignore[misc]  # a more detailed form of the field
    """Null: uploads of this kind are not inspected."""


@documented
class UploadList(TypedDict):
    """A page of the list of uploads, newest first."""

    uploads: list[UploadSummary]
    next_cursor: Id | None
    """The `cursor` of the next page; null on the last page."""


@documented
class Device(TypedDict):
    """A device class, with its live workers and its numbers of jobs."""

    device: DeviceClass
    workers_alive: int
    workers_stalled: list[str]
    """The names of the live workers that are idle although jobs have waited for long that they could run."""
    engines: dict[str, str]
    """For each kind of job, the backend that runs the jobs."""
    precisions: dict[str, list[str]]
    """For each kind of job that can choose a precision, the precisions that live workers offer."""
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
    """Stable name of the type of problem, for programs."""
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
    unreachable: NotRequired[list[Literal["database", "broker", "disk"]]]
    """The parts of the service that do not answer, and ``disk`` if there is too little free space."""
    stalled_workers: NotRequired[int]
    """The number of workers that are idle although jobs wait that they could run; not given if there are none."""
