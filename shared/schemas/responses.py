"""What the API answers, one shape per document. Types alone: nothing is checked while it is written."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on only

from shared.jobs import AUTO, DeviceClass, Kind, State
from shared.kinds.musicgen.catalogue import Availability
from shared.schemas.documented import documented

Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Bytes = Annotated[int, Field(ge=0)]


@documented
class Progress(TypedDict):
    """How far a job is within its stage."""

    done: int
    total: int
    """0 as long as it is not known."""
    unit: str | None
    stage: str | None


@documented
class JobError(TypedDict):
    """Why a job has no result."""

    type: str
    """Names the kind of error for programs."""
    title: str
    detail: str


@documented
class Webhook(TypedDict):
    """Where to tell of what happens to a job."""

    url: str
    events: list[State]
    """The states whose beginning is told."""


@documented
class Artifact(TypedDict):
    """A file that a job made."""

    name: str
    media_type: str
    bytes: Bytes
    sha256: Sha256
    url: str
    """Where it is, on this host."""


@documented
class Job(TypedDict):
    """A job at one moment."""

    id: Id
    kind: Kind
    state: State
    device: Annotated[str, Field(json_schema_extra={"enum": [AUTO, *DeviceClass]})]
    """The class that runs it, or that was asked for."""
    engine: str | None
    params: dict[str, Any]
    """Complete: every default is filled in."""
    labels: dict[str, str]
    priority: int
    progress: Progress
    queue_position: int | None
    """How many jobs go before it; of a queued job only."""
    eta_s: float | None
    """Seconds to the end of the stage, at the pace within it; of a running job only."""
    attempt: int
    max_attempts: int
    cancel_requested: bool
    worker: str | None
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    result: dict[str, Any] | None
    """Of a job that succeeded only."""
    error: JobError | None
    """Of a job that failed or was cancelled only."""
    retry_of: Id | None
    """The job whose parameters it has."""
    webhook: Webhook | None
    artifacts: list[Artifact]


@documented
class JobList(TypedDict):
    """A page of the list of jobs, newest first."""

    jobs: list[Job]
    next_cursor: Id | None
    """Asks for the page after this one; null on the last."""


@documented
class Upload(TypedDict):
    """A file that a client sent; its id stands in a job's parameters."""

    id: Id
    bytes: Bytes
    sha256: Sha256
    media_type: str
    filename: str | None


@documented
class Dataset(TypedDict):
    """A data set that comes with the service."""

    name: str
    title: str
    rows: int
    columns: list[str]
    label: str
    """What is predicted."""
    classes: list[str]
    source: str
    licence: str


@documented
class DatasetList(TypedDict):
    """The data sets."""

    datasets: list[Dataset]


@documented
class GenerationDefaults(TypedDict):
    """How a model generates where a job does not say."""

    do_sample: bool
    guidance_scale: float
    temperature: float
    top_k: int
    top_p: float
    max_new_tokens: int


@documented
class Model(TypedDict):
    """A music model."""

    name: str
    title: str
    state: Availability
    channels: int
    """1 for mono, 2 for stereo."""
    parameters: int | None
    """Of the language model alone."""
    defaults: GenerationDefaults
    licence: str
    licence_url: str | None
    note: str | None
    """What to know before choosing it."""


@documented
class ModelList(TypedDict):
    """The music models."""

    models: list[Model]


@documented
class Device(TypedDict):
    """A class of device with its workers and its load."""

    device: DeviceClass
    workers_alive: int
    engines: dict[str, str]
    """Kind of job to the engine that runs it."""
    queued: int
    running: int


@documented
class DeviceList(TypedDict):
    """The classes of device, best first."""

    devices: list[Device]


@documented
class FieldProblem(TypedDict):
    """One thing wrong with a request."""

    pointer: str
    """JSON pointer (RFC 6901) of the field."""
    detail: str
    """What is wrong and what would be right."""


@documented
class Problem(TypedDict):
    """Why there is no other answer (RFC 9457)."""

    type: str
    """Names the kind of problem for programs, and stays the same for ever."""
    title: str
    status: int
    detail: str
    errors: NotRequired[list[FieldProblem]]
    """Of a request that was read and is not valid."""


@documented
class Liveness(TypedDict):
    """The process answers."""

    status: Literal["alive"]


@documented
class Readiness(TypedDict):
    """Whether jobs can be taken."""

    status: Literal["ready", "not ready"]
    unreachable: NotRequired[list[Literal["database", "broker"]]]
    """What does not answer."""
