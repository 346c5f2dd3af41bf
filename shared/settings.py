"""Every setting, read from the environment (``MINDJOBS_…``) and from ``.env``."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import SettingsError
from shared.jobs import RetryDelay

MIN_SECRET_LENGTH: Final = 32
MAX_CLAIM_LOOP_S: Final = 600.0
"""How long a worker answers a bell by beginning job after job; the last one may take its time."""
# A Unix socket's path must fit into sockaddr_un.
MAX_SOCKET_PATH_BYTES = 107
_LOOPBACK = {"127.0.0.1": "127.0.0.1", "::1": "[::1]", "localhost": "localhost"}
_AWKWARD = re.compile(r'[%?#;\\"\n\t]')


class Settings(BaseSettings):
    """How this instance runs; the defaults make a complete one under ``./var``.

    Durations are in seconds (``_s``), sizes in bytes unless the name says otherwise.
    """

    model_config = SettingsConfigDict(env_prefix="MINDJOBS_", env_file=".env", extra="ignore", frozen=True)

    home: Annotated[Path, AfterValidator(Path.absolute)] = Path("var")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    database_url: str = ""
    redis_url: str = ""
    storage_url: str = ""
    models_dir: Path | None = None

    lease_s: PositiveFloat = 15.0
    """How long a job stays with a worker that is not heard of."""
    heartbeat_s: PositiveFloat = 1.0
    """How often a running job's worker is heard of, progress and the cancel flag included."""
    grace_s: PositiveFloat = 2.5
    """How long an engine may take to stop before its process is killed."""
    stall_s: PositiveFloat = 600.0
    """How long an engine may go without progress before its process is killed."""
    sweep_s: PositiveFloat = 2.0
    """How often the sweeper looks for lost, late and forgotten jobs."""
    retry_delay_s: PositiveFloat = 1.0
    """Pause before the second attempt; doubled for each further one."""
    max_retry_delay_s: PositiveFloat = 300.0
    worker_heartbeat_s: PositiveFloat = 5.0
    """How often a worker says that it is there; it counts as gone after three missed beats."""
    timeout_s: PositiveFloat = 86_400.0
    """A job's time from submission to its end, where the job does not say."""
    max_timeout_s: PositiveFloat = 604_800.0
    retention_days: PositiveFloat = 30.0
    """How long ended jobs, their files and unused uploads are kept."""

    max_upload_bytes: PositiveInt = 64 * 2**20
    max_body_bytes: PositiveInt = 2**20
    max_dataset_rows: PositiveInt = 200_000
    max_dataset_columns: PositiveInt = 2_000
    knn_memory_mb: PositiveInt = 512
    """Working memory of one KNN search."""
    musicgen_backend: str = "auto"
    """What computes music; ``auto`` is the fastest that is installed for the device: OpenVINO on CPUs, MindSpore
    elsewhere. MindNLP's model is far slower, and there to compare with."""
    musicgen_memory_mb: PositiveInt = 8_192
    """How much memory the weights of loaded models may take; the least recently used leave."""
    musicgen_cache_mb: PositiveInt = 4_096
    """How much memory the samples that are generated side by side may take besides."""
    musicgen_max_slots: PositiveInt | None = None
    """How many rows are generated side by side, of all jobs together; a sample that is guided has two. Where it is not
    set, as many as make more tokens per second, which is measured when a model is first loaded."""
    cpu_shares: PositiveInt = 1
    """Into how many ``cpu:N`` devices this machine's cores are divided."""
    web_processes: PositiveInt = 2
    web_threads: PositiveInt = 128
    """Of each process; up to half of them wait in long polls and event streams."""
    secret: Annotated[str, Field(repr=False)] = ""
    """What sessions and webhooks are signed with; every machine of an instance must have the same. Where it is not
    set, one is drawn and kept in the state folder."""
    requests_per_minute: PositiveInt = 600
    """Of each key."""
    max_queued_jobs: PositiveInt = 1_000
    """Of each key, at a time."""
    max_uploaded_bytes: PositiveInt = 10 * 2**30
    """Of each key, all uploads that are still kept together."""
    allow_private_webhooks: bool = False
    """Whether webhooks may lead to addresses that are not public; anyone who may submit a job can then make this
    machine call its neighbours."""
    trusted_hosts: str = ""
    """Names under which browsers may reach the web, separated by commas; on loopback, none but loopback's are."""
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"
    log_format: Literal["text", "json"] = "text"

    @model_validator(mode="before")
    @classmethod
    def _ignore_empty(cls, values: dict[str, object]) -> dict[str, object]:
        """Take ``MINDJOBS_X=`` as not set, as people expect of an environment file."""
        return {name: value for name, value in values.items() if value != ""}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.lease_s < 3 * self.heartbeat_s:
            raise ValueError("MINDJOBS_LEASE_S must be at least three times MINDJOBS_HEARTBEAT_S")
        if self.timeout_s > self.max_timeout_s:
            raise ValueError("MINDJOBS_TIMEOUT_S must not be above MINDJOBS_MAX_TIMEOUT_S")
        if self.secret and len(self.secret) < MIN_SECRET_LENGTH:
            raise ValueError(f"MINDJOBS_SECRET must have at least {MIN_SECRET_LENGTH} characters, drawn at random")
        if _AWKWARD.search(str(self.home)):
            raise ValueError(
                f"MINDJOBS_HOME: {self.home} holds a character that addresses cannot hold; "
                "choose a path without quotes and without % ? # ; and backslash"
            )
        if self.owns_redis and len(bytes(self.redis_socket)) > MAX_SOCKET_PATH_BYTES:
            raise ValueError(
                f"MINDJOBS_HOME is too deep: {self.redis_socket} is over {MAX_SOCKET_PATH_BYTES} bytes, "
                "too long for a socket; choose a shorter path, or set MINDJOBS_REDIS_URL"
            )
        return self

    @property
    def compiled(self) -> Path:
        """Folder in which compiled models are kept."""
        return self.home / "compiled"

    @property
    def on_loopback(self) -> bool:
        """Whether this machine alone can reach the web."""
        return self.host in _LOOPBACK

    @property
    def retry_delay(self) -> RetryDelay:
        """How long a lost job waits before its next attempt."""
        return RetryDelay(self.retry_delay_s, self.max_retry_delay_s)

    @property
    def owns_redis(self) -> bool:
        """Whether ``make up`` runs a Redis in the state folder."""
        return not self.redis_url

    @property
    def redis_socket(self) -> Path:
        """Socket of the Redis in the state folder."""
        return self.home / "redis" / "redis.sock"

    @property
    def redis(self) -> str:
        """Address of the Redis in use, as redis-py writes it."""
        return self.redis_url or f"unix://{self.redis_socket}?db=0"

    @property
    def database(self) -> str:
        """Address of the database in use, as SQLAlchemy writes it."""
        return self.database_url or f"sqlite:///{self.home / 'mindjobs.sqlite'}"

    @property
    def storage(self) -> str:
        """Address of the folder in which uploads and artifacts lie."""
        return self.storage_url or f"file://{self.home / 'files'}"

    @property
    def host_names(self) -> list[str] | None:
        """Names that a request's ``Host`` may have; ``None`` for any, where a proxy or the network decides.

        A page of another site can make a browser call loopback under a name of its own (DNS rebinding).
        """
        named = [name.strip() for name in self.trusted_hosts.split(",") if name.strip()]
        if self.on_loopback:
            return [*_LOOPBACK.values(), *named]
        return named or None

    @property
    def authority(self) -> str:
        """Host and port as addresses write them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def visibility_timeout_s(self) -> int:
        """When Redis hands an unacknowledged message out again: above the hard limit."""
        return int(self.hard_limit_s) + 3_600

    @property
    def hard_limit_s(self) -> float:
        """When Celery's parent kills a task's process, should everything within it have failed."""
        return MAX_CLAIM_LOOP_S + self.max_timeout_s + 60


def load_settings() -> Settings:
    """Read the settings.

    Raises
    ------
    SettingsError
        Naming each variable that is wrong and why.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"MINDJOBS_{str(problem['loc'][0]).upper()}: {problem['msg']}"
            if problem["loc"]
            else problem["msg"].removeprefix("Value error, ")
            for problem in error.errors()
        ]
        raise SettingsError("; ".join(lines)) from error
