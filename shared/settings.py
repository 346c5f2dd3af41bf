"""Every setting, read from the environment (``MINDJOBS_…``) and from ``.env``."""

import difflib
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import parse_qs, urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import SettingsError
from shared.retry_delay import RetryDelay
from shared.texts import Value, render, text

PREFIX: Final = "MINDJOBS_"
ENV_FILE: Final = ".env"
MIN_SECRET_LENGTH: Final = 32
MAX_CLAIM_LOOP_S: Final = 600.0
"""How long a worker claims job after job for one wake-up message. The last of these jobs may end after this time."""
MAX_SOCKET_PATH_BYTES: Final = 107
"""The maximum length of a Unix socket's path, which must fit into ``sockaddr_un``."""
RENAMED: Final[Mapping[str, str]] = {
    "BEAT_S": "HEARTBEAT_S",
    "BODY_BYTES_MOST": "MAX_BODY_BYTES",
    "DATASET_COLUMNS_MOST": "MAX_DATASET_COLUMNS",
    "DATASET_ROWS_MOST": "MAX_DATASET_ROWS",
    "KEEP_DAYS": "RETENTION_DAYS",
    "MUSICGEN_ENGINE": "MUSICGEN_BACKEND",
    "MUSICGEN_ROWS_MOST": "MUSICGEN_MAX_SLOTS",
    "QUEUED_JOBS_MOST": "MAX_QUEUED_JOBS",
    "RETRY_DELAY_MOST_S": "MAX_RETRY_DELAY_S",
    "TIMEOUT_MOST_S": "MAX_TIMEOUT_S",
    "UPLOADED_BYTES_MOST": "MAX_UPLOADED_BYTES",
    "UPLOAD_BYTES_MOST": "MAX_UPLOAD_BYTES",
    "WEBHOOKS_PRIVATE": "ALLOW_PRIVATE_WEBHOOKS",
    "WORKER_BEAT_S": "WORKER_HEARTBEAT_S",
}
"""The names of settings before version 0.1.0, each with today's name. If an old name is set, no process starts."""
OTHER_VARIABLES: Final = frozenset({"KEY", "SERVER"})
"""Variables of the client, which are not settings of an instance."""
# The prefix of the benchmarks' variables, which are not settings of an instance either.
_OTHER_PREFIX: Final = "BENCH_"
_LOOPBACK: Final = {"127.0.0.1": "127.0.0.1", "::1": "[::1]", "localhost": "localhost"}
KNOWN_MODELS: Final = "known"
"""The entry of ``models_allowed`` that stands for the models of the catalogue."""
_ORGANISATION: Final = r"[A-Za-z0-9][\w.-]*"
_ALLOWED_MODELS: Final = re.compile(rf"{KNOWN_MODELS}|\*|{_ORGANISATION}/(?:\*|{_ORGANISATION})")
_NOT_IN_ADDRESSES: Final = re.compile(r'[%?#;\\"\n\t]')
# A name with a dot at its start stands for all names that end so.
_HOST_NAME: Final = re.compile(r"\.?[\w-]{1,63}(\.[\w-]{1,63})*(:\d+)?|\[[0-9a-f:.]+\](:\d+)?")
_WEB_ORIGIN: Final = re.compile(r"(http://(?!.*:80$)|https://(?!.*:443$))([\w-]+(\.[\w-]+)*|\[[0-9a-f:.]+\])(:\d+)?")

logger = logging.getLogger(__name__)


def _problem(code: str, /, **values: Value) -> PydanticCustomError:
    """Make the error of a validator from a sentence of the catalogue."""
    return PydanticCustomError("setting", "{sentence}", {"sentence": render(text(code, **values))})


class Settings(BaseSettings):
    """The settings of this instance. With the defaults, a complete instance runs in ``./var``.

    Durations are in seconds (``_s``), sizes in bytes unless the name contains another unit.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=ENV_FILE, extra="ignore", frozen=True)

    home: Annotated[Path, AfterValidator(Path.absolute)] = Path("var")
    """The state folder."""
    host: Annotated[str, AfterValidator(lambda host: host.strip("[]"))] = "127.0.0.1"
    """The address to listen on."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    database_url: Annotated[str, Field(repr=False)] = ""
    redis_url: Annotated[str, Field(repr=False)] = ""
    storage_url: str = ""
    models_dir: Path | None = None
    models_allowed: str = KNOWN_MODELS
    """The music models that jobs may name, separated by commas: ``ORG/NAME``, ``ORG/*``, ``*`` for any, and ``known``
    for the models of the catalogue. A list replaces the default; ``known,ORG/NAME`` adds to it. The built-in model and
    the models in ``models_dir`` are always allowed. Nothing else is downloaded or read from the cache of downloads."""
    max_model_mb: PositiveInt = 16_384
    """Size limit of a model that is downloaded. The largest known model has about 14 GB."""
    max_model_cache_mb: PositiveInt = 51_200
    """Size limit of all models together that this service has downloaded. Before a further download, the least recently
    used of these models are deleted. Other models in the cache are neither counted nor deleted."""

    lease_s: PositiveFloat = 15.0
    """How long a worker keeps a job without a heartbeat."""
    heartbeat_s: PositiveFloat = 1.0
    """Interval between the heartbeats of a running job. A heartbeat also writes the job's progress and reads whether to
    cancel the job."""
    grace_s: PositiveFloat = 2.5
    """How long an engine may take to stop before its process is killed."""
    stall_s: PositiveFloat = 600.0
    """How long an engine may go without progress before its process is killed."""
    sweep_s: PositiveFloat = 2.0
    """Interval between the sweeper's searches for lost jobs, missed deadlines and lost wake-up messages."""
    retry_delay_s: PositiveFloat = 1.0
    """Delay before the second attempt; doubled for each further attempt."""
    max_retry_delay_s: PositiveFloat = 300.0
    min_free_mb: PositiveInt = 100
    """Free space on the disks of the state folder and of the files. If there is less, submissions and uploads are
    refused with 507, and ``/readyz`` says so."""
    worker_heartbeat_s: PositiveFloat = 5.0
    """Interval between the heartbeats of a worker. After three missed heartbeats the worker counts as lost."""
    stalled_worker_s: PositiveFloat = 60.0
    """How long an idle worker may leave a job waiting that it could run. Then the worker stops, to be started again.
    After half of this time, ``/readyz``, ``/devices`` and ``/metrics`` show the worker."""
    timeout_s: PositiveFloat = 86_400.0
    """Time limit of a job that sets no limit itself, from the submission of the job to its end."""
    max_timeout_s: PositiveFloat = 604_800.0
    retention_days: PositiveFloat = 30.0
    """How long ended jobs, their files, and unused uploads are kept."""

    max_upload_bytes: PositiveInt = 64 * 2**20
    max_unpacked_bytes: PositiveInt = 512 * 2**20
    """Size limit of a compressed upload when it is unpacked."""
    inspection_memory_mb: PositiveInt = 1_024
    """Memory of the process that inspects an upload."""
    inspection_timeout_s: PositiveFloat = 60.0
    """How long the inspection of an upload may take, and how much processor time."""
    max_audio_s: PositiveFloat = 3_600.0
    """How much audio an upload may contain, in seconds."""
    max_body_bytes: PositiveInt = 2**20
    max_dataset_rows: PositiveInt = 200_000
    max_dataset_columns: PositiveInt = 2_000
    knn_memory_mb: PositiveInt = 512
    """Working memory of one search for nearest neighbours."""
    musicgen_backend: str = "auto"
    """The backend that computes music. ``auto`` means the preferred backend that is installed and computes on the
    device: OpenVINO on CPUs, MindSpore elsewhere. MindNLP is far slower and meant for comparisons."""
    musicgen_memory_mb: PositiveInt = 8_192
    """Memory for the weights of loaded models; the least recently used model is evicted."""
    musicgen_cache_mb: PositiveInt = 4_096
    """Memory for the keys and values of all sequences in the batch, in addition to the weights."""
    musicgen_max_slots: PositiveInt | None = None
    """Size of the batch in slots, for all jobs together; a guided sample takes two slots. If this is not set, the size
    that generates the most tokens per second is measured when a model is loaded for the first time."""
    cpu_shares: PositiveInt = 1
    """Number of ``cpu:N`` devices into which the cores of this machine are divided."""
    web_processes: PositiveInt = 2
    web_threads: PositiveInt = 128
    """Threads per process. Up to half of these threads hold long polls and event streams."""
    secret: Annotated[str, Field(repr=False)] = ""
    """The secret that signs sessions and webhook messages. Every machine of an instance must have the same secret. If
    this is not set, a random secret is created and kept in the state folder."""
    requests_per_minute: PositiveInt = 600
    """Limit of the requests of each API key per minute."""
    max_queued_jobs: PositiveInt = 1_000
    """Limit of the jobs of each API key that are queued at the same time."""
    max_job_music_s: PositiveFloat = 3_600.0
    """Limit of the music that one job makes, all samples together."""
    max_queued_music_s: PositiveFloat = 14_400.0
    """Limit of the music of all queued and running jobs of each API key, and of all jobs without a key together."""
    max_uploaded_bytes: PositiveInt = 10 * 2**30
    """Limit of the total size of all kept uploads of each API key."""
    allow_private_webhooks: bool = False
    """Whether webhook messages may go to addresses that are not public. If this is allowed, everyone who can submit a
    job can make this machine send requests to the network of this machine."""
    trusted_hosts: str = ""
    """Host names, separated by commas, under which browsers may reach the web application. If some are named, or on
    loopback, the names of loopback and the address in ``host`` are allowed as well, but not behind a proxy: a host that
    a proxy forwards must be named here."""
    trusted_proxies: Annotated[int, Field(ge=0, le=10)] = 0
    """Number of proxies in front of the web application. Of ``X-Forwarded-For``, ``-Proto``, ``-Host`` and ``-Prefix``,
    only what this number of proxies added is believed. Only the proxy may then be able to reach the port, and an API
    key is needed even on loopback."""
    cors_origins: str = ""
    """Origins such as ``https://app.example.org``, separated by commas, whose pages may call the API with an API key
    (CORS)."""
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"
    log_format: Literal["text", "json"] = "text"
    log_sql: bool = False
    """Whether every SQL statement is logged, without its parameters, which may contain secrets."""

    @model_validator(mode="before")
    @classmethod
    def _ignore_empty(cls, values: dict[str, object]) -> dict[str, object]:
        """Treat ``MINDJOBS_X=`` as not set, as people expect of an environment file."""
        return {name: value for name, value in values.items() if value != ""}

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.lease_s < 3 * self.heartbeat_s:
            raise _problem("setting-lease-too-short")
        if self.timeout_s > self.max_timeout_s:
            raise _problem("setting-timeout-too-long")
        if self.secret and len(self.secret) < MIN_SECRET_LENGTH:
            raise _problem("setting-secret-too-short", min_length=MIN_SECRET_LENGTH)
        if self.redis_url and not _is_redis_address(self.redis_url):
            raise _problem("setting-redis-address")
        for entry in self.allowed_models:
            if not _ALLOWED_MODELS.fullmatch(entry):
                raise _problem("setting-models-allowed", entry=entry)
        if _NOT_IN_ADDRESSES.search(str(self.home)):
            raise _problem("setting-home-characters", home=str(self.home))
        if self.owns_redis and len(bytes(self.redis_socket)) > MAX_SOCKET_PATH_BYTES:
            raise _problem("setting-home-too-deep", socket=str(self.redis_socket), max_bytes=MAX_SOCKET_PATH_BYTES)
        return self

    @model_validator(mode="after")
    def _check_hosts_and_origins(self) -> Self:
        for name in _split(self.trusted_hosts):
            if not _HOST_NAME.fullmatch(name):
                raise _problem("setting-host-invalid", name=name)
        for origin in self.allowed_origins:
            if not _WEB_ORIGIN.fullmatch(origin):
                raise _problem("setting-origin-invalid", origin=origin)
        return self

    @property
    def allowed_models(self) -> frozenset[str]:
        """The entries of ``models_allowed``."""
        return frozenset(entry.strip() for entry in self.models_allowed.split(",") if entry.strip())

    @property
    def compiled(self) -> Path:
        """Folder of compiled models."""
        return self.home / "compiled"

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the web application: it listens on loopback, and no proxy is in front."""
        return self.host in _LOOPBACK and not self.trusted_proxies

    @property
    def stalled_worker_shown_s(self) -> float:
        """How long an idle worker may leave a job waiting before it is shown."""
        return self.stalled_worker_s / 2

    @property
    def retry_delay(self) -> RetryDelay:
        """How long a lost job waits before its next attempt."""
        return RetryDelay(self.retry_delay_s, self.max_retry_delay_s)

    @property
    def disk_full_delay(self) -> RetryDelay:
        """How long a job that has found its disk full waits before its next attempt: until someone has freed space."""
        return RetryDelay(30 * self.retry_delay_s, self.max_retry_delay_s)

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
        """Address of the Redis in use, in redis-py's form."""
        return self.redis_url or f"unix://{self.redis_socket}?db=0"

    @property
    def database(self) -> str:
        """Address of the database in use, in SQLAlchemy's form."""
        return self.database_url or f"sqlite:///{self.home / 'mindjobs.sqlite'}"

    @property
    def storage(self) -> str:
        """Address of the store of uploads and artifacts."""
        return self.storage_url or f"file://{self.home / 'files'}"

    @property
    def named_hosts(self) -> list[str]:
        """The host names in ``trusted_hosts``, without ports. Only these are allowed in ``X-Forwarded-Host``."""
        return [re.sub(r":\d+$", "", name) for name in _split(self.trusted_hosts)]

    @property
    def host_names(self) -> list[str] | None:
        """The host names that a request may contain in ``Host``; ``None`` if every name is allowed.

        On loopback the names are limited, because a page of another site can make a browser call loopback under that
        site's host name (DNS rebinding). Elsewhere every name is allowed if none is set: a proxy or the network decides
        which requests arrive.
        """
        if not self.named_hosts and self.host not in _LOOPBACK:
            return None
        own = f"[{self.host}]" if ":" in self.host else self.host
        return [*_LOOPBACK.values(), own, *self.named_hosts]

    @property
    def allowed_origins(self) -> frozenset[str]:
        """The origins in ``cors_origins``."""
        return frozenset(_split(self.cors_origins))

    @property
    def authority(self) -> str:
        """Host and port in the form of a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def hard_limit_s(self) -> float:
        """The time after which Celery's parent process kills a task's process if all limits in that process failed."""
        return MAX_CLAIM_LOOP_S + self.max_timeout_s + 60


def _split(names: str) -> list[str]:
    """Split names that are separated by commas. Upper and lower case are the same in host names and in origins."""
    return [name.strip().lower() for name in names.split(",") if name.strip()]


def _is_redis_address(url: str) -> bool:
    """Return whether redis-py and kombu read an address, and both in the same way."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises ValueError, for example if the password contains an unescaped slash
    except ValueError:
        return False
    if parts.fragment:
        return False
    if parts.scheme == "unix":
        return bool(parts.path) and parse_qs(parts.query).keys() <= {"db"}
    return parts.scheme in {"redis", "rediss"} and re.fullmatch(r"/?\d*", parts.path) is not None


def load_settings() -> Settings:
    """Read the settings.

    Raises
    ------
    SettingsError
        A variable is wrong, or its name has changed. The error contains each such variable, and what to do.
    """
    _check_names()
    try:
        return Settings()
    except ValidationError as error:
        problems = [
            f"{PREFIX}{str(problem['loc'][0]).upper()}: {problem['msg']}" if problem["loc"] else problem["msg"]
            for problem in error.errors()
        ]
        raise SettingsError(text("settings-wrong", problems="; ".join(problems))) from error


def _check_names() -> None:
    """Refuse old names of settings, and log a warning for each name that is not a setting.

    If an old name were ignored, the service would run with the default value of the setting.
    """
    known = {name.upper() for name in Settings.model_fields}
    renamed = []
    for name in _list_names():
        if name in RENAMED:
            renamed.append(f"{PREFIX}{name} is called {PREFIX}{RENAMED[name]} now")
        elif name not in known | OTHER_VARIABLES and not name.startswith(_OTHER_PREFIX):
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            logger.warning("%s%s is not a setting and is ignored; did you mean %s%s?", PREFIX, name, PREFIX, nearest)
    if renamed:
        raise SettingsError(text("settings-renamed", renamed="; ".join(renamed)))


def _list_names() -> list[str]:
    """List the variables with our prefix that have a value in the environment or in ``.env``, without the prefix."""
    given = {**dotenv_values(ENV_FILE), **os.environ}
    names = {name.upper() for name, value in given.items() if value}
    return sorted(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))
