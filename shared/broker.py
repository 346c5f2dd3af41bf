"""Wake-up messages for workers, sent with Celery over Redis. A message carries only the id of a job.

The job's row is the truth. The sweeper sends a lost message again, and a worker that receives the same message twice
finds nothing to claim the second time.
"""

import logging
from collections.abc import Iterable
from functools import cached_property
from typing import Final

from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

from shared.jobs import DeviceClass, Kind, name_queue
from shared.settings import Settings

TASK: Final = "mindjobs.work"
QUEUES: Final = [name_queue(kind, device) for kind in Kind for device in DeviceClass]
MAX_PENDING_WAKEUPS: Final = 64
"""A queue with this many messages gets no further messages. If a device class has more workers than this number, the
sweeper wakes the remaining workers in its next round."""

# How long a request waits for Redis if Redis is down or hangs.
CONNECT_TIMEOUT_S: Final = 1.0
RESPONSE_TIMEOUT_S: Final = 2.0
MAX_WAIT_S: Final = 10.0
"""The longest time that a command waits in Redis for a message."""
UPLOADS_KEY: Final = "mindjobs.uploads"
"""The list with one message for each new upload, up to `MAX_PENDING_WAKEUPS`."""

logger = logging.getLogger(__name__)

# The types of the keys in Redis that kombu uses in addition to the queues, and the separator in the names of the queues
# for messages with a priority.
_TYPES_OF_KEYS: Final = {"unacked": b"hash", "unacked_index": b"zset", "unacked_mutex": b"string"}
_PRIORITY_SEPARATOR: Final = "\x06\x16"
_PRIORITIES: Final = ("", *(f"{_PRIORITY_SEPARATOR}{priority}" for priority in (3, 6, 9)))


def make_celery(settings: Settings) -> Celery:
    """Make the Celery application. The worker adds the task to this application."""
    app = Celery("mindjobs", set_as_current=False)
    transport = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": RESPONSE_TIMEOUT_S,
        "socket_keepalive": not settings.owns_redis,
        "health_check_interval": 30,
        "retry_on_timeout": False,
    }
    app.conf.update(
        broker_url=_format_kombu_url(settings.redis),
        broker_transport_options=transport,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=CONNECT_TIMEOUT_S,
        broker_pool_limit=settings.web_threads,
        broker_pool_acquire_timeout=RESPONSE_TIMEOUT_S,
        task_ignore_result=True,
        task_default_queue="mindjobs",
        # A message is not acknowledged: if it is lost, the sweeper sends another one. A worker receives one message at
        # a time, so a busy worker holds no message that an idle worker could handle.
        task_queues=[Queue(name, Exchange(name), name, no_ack=True) for name in QUEUES],
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_concurrency=1,
        task_time_limit=settings.hard_limit_s,
        worker_soft_shutdown_timeout=1.0,
        worker_proc_alive_timeout=120.0,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_publish_retry=False,
        accept_content=["json"],
    )
    return app


def delete_foreign_keys(redis: Redis, queues: Iterable[str]) -> None:
    """Delete the keys in Redis that have the name of a key of kombu, but another type.

    As long as such a key exists, every command for it fails, and the queue is useless.

    Raises
    ------
    RedisError
        Redis does not answer.
    """
    types = dict(_TYPES_OF_KEYS)
    for queue in queues:
        types |= {f"{queue}{priority}": b"list" for priority in _PRIORITIES}
        types[f"_kombu.binding.{queue}"] = b"set"
    with redis.pipeline(transaction=False) as pipeline:
        for key in types:
            pipeline.type(key)
        found = pipeline.execute()
    for (key, expected), actual in zip(types.items(), found, strict=True):
        if actual not in {expected, b"none"}:
            logger.warning("the key %r in Redis is a %s and is deleted", key, actual.decode())
            redis.delete(key)


class Broker:
    """Sends wake-up messages and counts the pending messages.

    Parameters
    ----------
    settings
        Contain the address of Redis.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.redis
        self._celery = make_celery(settings)
        self._redis: Redis = Redis.from_url(
            settings.redis, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=RESPONSE_TIMEOUT_S
        )

    @cached_property
    def _waiting_redis(self) -> Redis:
        """The Redis with a longer timeout, for a command that waits there."""
        return Redis.from_url(
            self._url, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=MAX_WAIT_S + RESPONSE_TIMEOUT_S
        )

    def wake(self, kind: Kind, device: DeviceClass, job_id: str) -> bool:
        """Wake a worker, which then claims the best of all jobs that it can run.

        If `MAX_PENDING_WAKEUPS` messages are pending, no message is sent. One more message would have no effect if
        there are fewer idle workers than pending messages.

        Returns
        -------
        ``False`` if Redis did not accept the message. In this case the sweeper finds the job's row later and sends a
        message for it.
        """
        try:
            if self.count_pending_wakeups(kind, device) >= MAX_PENDING_WAKEUPS:
                return True
            self._celery.send_task(TASK, args=[job_id], queue=name_queue(kind, device))
        except (OperationalError, RedisError, OSError) as error:
            logger.warning("job %s is queued, but no worker was woken, since Redis does not answer: %s", job_id, error)
            return False
        return True

    def count_pending_wakeups(self, kind: Kind, device: DeviceClass) -> int:
        """Count the pending wake-up messages of a queue: those that no worker has received yet.

        Raises
        ------
        RedisError
            Redis does not answer.
        """
        return int(self._redis.llen(name_queue(kind, device)))

    def repair(self) -> None:
        """Delete foreign data under the names of the queues; see `delete_foreign_keys`."""
        delete_foreign_keys(self._redis, [*QUEUES, UPLOADS_KEY])

    def wake_inspector(self) -> bool:
        """Wake the process that inspects uploads.

        Returns
        -------
        ``False`` if Redis did not accept the message. In this case the process finds the upload's row later.
        """
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.lpush(UPLOADS_KEY, b"")
                pipeline.ltrim(UPLOADS_KEY, 0, MAX_PENDING_WAKEUPS - 1)
                pipeline.execute()
        except (RedisError, OSError) as error:
            logger.warning("an upload is inspected later, since Redis does not answer: %s", error)
            return False
        return True

    def wait_for_upload(self, timeout_s: float) -> bool:
        """Wait for a message of `wake_inspector`, and return whether one came within ``timeout_s``, or `MAX_WAIT_S`.

        Raises
        ------
        RedisError
            Redis does not answer.
        """
        return self._waiting_redis.brpop([UPLOADS_KEY], min(timeout_s, MAX_WAIT_S)) is not None

    def ping(self) -> None:
        """Raise RedisError unless Redis answers."""
        self._redis.ping()

    def close(self) -> None:
        """Close every connection."""
        self._celery.close()
        self._redis.close()
        self._waiting_redis.close()


def _format_kombu_url(url: str) -> str:
    """Convert the URL of a Redis to the form of kombu, which differs from the form of redis-py for Unix sockets."""
    if not url.startswith("unix://"):
        return url
    path, _, query = url.removeprefix("unix://").partition("?")
    return f"redis+socket://{path}?virtual_host={query.removeprefix('db=') or 0}"
