"""Wake-up messages for workers: Celery over Redis; a message carries only a job's id.

The job's row is the truth. The sweeper sends a lost message again, and a worker that
receives one twice finds nothing to claim the second time.
"""

import logging
from typing import Final

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

from shared.jobs import DeviceClass, Kind, name_queue
from shared.settings import Settings

TASK: Final = "mindjobs.work"
MAX_PENDING_WAKEUPS: Final = 64
"""A queue that holds this many messages gets no more. If a class of device has more workers than this, the others wake
in the sweeper's next round."""

# How long a request waits for a Redis that is dead or hangs.
CONNECT_TIMEOUT_S: Final = 1.0
RESPONSE_TIMEOUT_S: Final = 2.0

logger = logging.getLogger(__name__)


def make_celery(settings: Settings) -> Celery:
    """Make the Celery application; the worker adds the task to it."""
    app = Celery("mindjobs", set_as_current=False)
    transport = {
        # In all three places from which Celery and kombu read it.
        "visibility_timeout": settings.visibility_timeout_s,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
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
        result_backend_transport_options={"visibility_timeout": settings.visibility_timeout_s},
        visibility_timeout=settings.visibility_timeout_s,
        task_ignore_result=True,
        task_default_queue="mindjobs",
        # Acknowledged when done, one at a time: a busy worker holds no message that an idle one could handle.
        task_acks_late=True,
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


class Broker:
    """Sends wake-up messages and counts those that are pending.

    Parameters
    ----------
    settings
        Name the Redis.
    """

    def __init__(self, settings: Settings) -> None:
        self._celery = make_celery(settings)
        self._redis: Redis = Redis.from_url(
            settings.redis, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=RESPONSE_TIMEOUT_S
        )

    def wake(self, kind: Kind, device: DeviceClass, job_id: str) -> bool:
        """Wake a worker, which then claims from all jobs that it can run.

        If more messages are pending than there are idle workers, another one would have no effect.

        Returns
        -------
        Whether Redis accepted the message. If not, the sweeper sends it later; the job is safe in its row.
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
        """Count the messages that no worker has received yet.

        Raises
        ------
        RedisError
            Redis does not answer.
        """
        return int(self._redis.llen(name_queue(kind, device)))

    def ping(self) -> None:
        """Raise RedisError unless Redis answers."""
        self._redis.ping()

    def close(self) -> None:
        """Close every connection."""
        self._celery.close()
        self._redis.close()


def _format_kombu_url(url: str) -> str:
    """Return an address in kombu's form, which differs from redis-py's for Unix sockets."""
    if not url.startswith("unix://"):
        return url
    path, _, query = url.removeprefix("unix://").partition("?")
    return f"redis+socket://{path}?virtual_host={query.removeprefix('db=') or 0}"
