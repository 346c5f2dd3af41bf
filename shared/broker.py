"""The door bell: Celery over Redis, which wakes a worker and carries nothing but a job's id.

The row is the truth. A bell that is lost is rung again by the sweeper, and one
that rings twice finds nothing to claim the second time.
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
"""As many workers as a class of devices may have that all are woken at once; any more wait for the sweeper's round."""

# A dead or hanging Redis costs a request this long, once.
CONNECT_TIMEOUT_S: Final = 1.0
ANSWER_TIMEOUT_S: Final = 2.0

logger = logging.getLogger(__name__)


def make_celery(settings: Settings) -> Celery:
    """Make the Celery application; the worker adds the task to it."""
    app = Celery("mindjobs", set_as_current=False)
    transport = {
        # In all three places that Celery and kombu read it from.
        "visibility_timeout": settings.visibility_timeout_s,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": ANSWER_TIMEOUT_S,
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
        broker_pool_acquire_timeout=ANSWER_TIMEOUT_S,
        result_backend_transport_options={"visibility_timeout": settings.visibility_timeout_s},
        visibility_timeout=settings.visibility_timeout_s,
        task_ignore_result=True,
        task_default_queue="mindjobs",
        # Acknowledged when done, one at a time: a busy worker holds no bell that an idle one could answer.
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
    """Rings, and counts bells.

    Parameters
    ----------
    settings
        Say which Redis.
    """

    def __init__(self, settings: Settings) -> None:
        self._celery = make_celery(settings)
        self._redis: Redis = Redis.from_url(
            settings.redis, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=ANSWER_TIMEOUT_S
        )

    def ring(self, kind: Kind, device: DeviceClass, job_id: str) -> bool:
        """Wake a worker, which then looks at all jobs that it can run.

        So where more bells wait than there are workers to be idle, another would tell nobody anything.

        Returns
        -------
        Whether Redis took it. If not, the sweeper rings later; the job is safe in its row.
        """
        try:
            if self.count_pending_wakeups(kind, device) >= MAX_PENDING_WAKEUPS:
                return True
            self._celery.send_task(TASK, args=[job_id], queue=name_queue(kind, device))
        except (OperationalError, RedisError, OSError) as error:
            logger.warning("job %s is queued but not rung, Redis does not answer: %s", job_id, error)
            return False
        return True

    def count_pending_wakeups(self, kind: Kind, device: DeviceClass) -> int:
        """Count the bells that wait for a worker.

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
    """Write an address as kombu does, which spells Unix sockets differently from redis-py."""
    if not url.startswith("unix://"):
        return url
    path, _, query = url.removeprefix("unix://").partition("?")
    return f"redis+socket://{path}?virtual_host={query.removeprefix('db=') or 0}"
