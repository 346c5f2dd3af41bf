"""How the worker's Celery receives wake-up messages from Redis, so that nothing in Redis can leave it without work."""

import logging
from typing import Any

from celery.worker import state
from celery.worker.request import Request
from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import ResponseError
from typing_extensions import override

from shared.broker import delete_foreign_keys

logger = logging.getLogger(__name__)


class WakeUpRequest(Request):  # type: ignore[misc]  # Celery has no types
    """A received message, which is not acknowledged.

    Kombu logs an acknowledgement that fails because Redis does not answer, and never repeats it. The message would
    count as unacknowledged for ever, and the worker would not receive the next one.
    """

    @override
    def acknowledge(self) -> None:
        self.acknowledged = True

    @override
    def reject(self, requeue: bool = False) -> None:
        self.acknowledge()


def count_untaken() -> int:
    """Count the messages that this process has received and that its child has not taken."""
    return len(state.reserved_requests) - len(state.active_requests)


class Channel(redis.Channel):  # type: ignore[misc]  # kombu has no types
    """A channel that drops what is not a message. Kombu would raise an error, and the worker would reconnect."""

    @override
    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except ResponseError as error:  # a key has another type than kombu expects
            logger.warning("Redis cannot read a queue: %s", error)
            delete_foreign_keys(self.client, self.active_queues)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            logger.warning("a queue contained something that is not a message, which is dropped: %r", error)
        return None


class Transport(redis.Transport):  # type: ignore[misc]  # kombu has no types
    """Kombu's transport for Redis, with our channel."""

    Channel = Channel


def register_transport() -> None:
    """Let kombu use our transport for every Redis. No setting can choose it, since the scheme of an address does."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{Transport.__module__}:{Transport.__qualname__}"))
