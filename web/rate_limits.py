"""Limits the requests per minute of each API key, and how often wrong API keys are sent.

A valid key is always accepted, whatever else was sent from its address: only wrong keys are counted, by the key and by
the address. So a client with a wrong key cannot fill the log, and cannot lock out others behind the same proxy.
"""

import logging
import math
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from flask import Flask, Response, current_app, request
from flask_limiter import ApplicationLimit, HeaderNames, Limiter
from flask_limiter.util import get_remote_address
from limits import RateLimitItem, RateLimitItemPerMinute
from redis.exceptions import RedisError
from typing_extensions import override

from shared.api_keys import hash_key
from shared.broker import CONNECT_TIMEOUT_S, RESPONSE_TIMEOUT_S
from shared.errors import LimitError, WrongKeysError
from shared.jobs import ANONYMOUS
from shared.texts import text
from web.context import get_context
from web.pending_body import JUDGED

WRONG_KEY_LIMIT: Final[RateLimitItem] = RateLimitItemPerMinute(10)
"""How often wrong keys may be sent from the same address, and how often the same wrong key from all addresses."""
SIGN_IN_LIMIT: Final[RateLimitItem] = RateLimitItemPerMinute(10)
"""How often a valid key may sign in; each time, a session is stored."""
RESET_AFTER: Final = "X-RateLimit-Reset-After"
_EXTENSION: Final = "mindjobs-limiter"
"""The key of the limiter in ``app.extensions``."""
_PREFIX: Final = "mindjobs"
_LOGGED_DIGITS: Final = 12
# The library ``limits`` passes these timeouts to redis-py, which accepts fractions of a second.
_TIMEOUTS: Final[dict[str, Any]] = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": RESPONSE_TIMEOUT_S}

logger = logging.getLogger(__name__)


class _Limiter(Limiter):
    @override
    def _check_request_limit(self, callable_name: str | None = None, in_middleware: bool = True) -> None:
        """Check the limits of a request. Anonymous requests have no limit, and are skipped.

        A request that waited for its body was counted when its head was judged.

        ``flask_limiter.Limiter`` would also find that a request has no limit, but this would take a tenth of the time
        of a poll.
        """
        if self._key_func() != ANONYMOUS and JUDGED not in request.environ:
            super()._check_request_limit(callable_name, in_middleware)

    def count(self, limit: RateLimitItem, *names: str) -> int:
        """Count an event that is not a request with a key.

        While Redis does not answer, this process counts for itself, as for requests. The next request with a key
        finds that Redis answers again.

        Returns
        -------
        How long to wait, in seconds, if the limit is exceeded; otherwise 0.
        """
        names = (_PREFIX, *names)
        try:
            if self.limiter.hit(limit, *names):
                return 0
            reset_at = self.limiter.get_window_stats(limit, *names).reset_time
        except (RedisError, OSError) as error:
            logger.warning("this process counts wrong keys for itself, because Redis does not answer: %s", error)
            self._storage_dead = True
            return self.count(limit, *names[1:])
        return max(1, math.ceil(reset_at - time.time()))


def init_app(app: Flask, get_owner: Callable[[], str]) -> None:
    """Count requests in Redis for all processes together, or in this process alone while Redis does not answer.

    Parameters
    ----------
    get_owner
        Returns the owner of the current request.
    """
    settings = get_context(app).services.settings
    app.after_request(_add_retry_after)  # runs after the limiter's own after_request function
    limiter = _Limiter(
        key_func=get_owner,
        application_limits=[ApplicationLimit(f"{settings.requests_per_minute} per minute")],
        storage_uri=_convert_redis_url(settings.redis),
        storage_options=_TIMEOUTS,
        in_memory_fallback_enabled=True,
        headers_enabled=True,
        # The limiter would set Retry-After on every response, and would replace the value that tells a client when to
        # read a job again. So the limiter sets another header.
        header_name_mapping={HeaderNames.RETRY_AFTER: RESET_AFTER},
        key_prefix=_PREFIX,
    )
    limiter.init_app(app)
    app.extensions[_EXTENSION] = limiter


def count_wrong_key(key: str) -> None:
    """Count a wrong key, and log it unless too many were sent.

    Raises
    ------
    WrongKeysError
        Too many wrong keys were sent from the address of the request, or this key too often.
    """
    address, digest = get_remote_address(), hash_key(key.strip())
    for names in (("wrong-keys-from", address), ("wrong-key", digest)):
        if wait_s := _get_limiter().count(WRONG_KEY_LIMIT, *names):
            raise WrongKeysError(text("keys-wrong", limit=str(WRONG_KEY_LIMIT)), wait_s)
    logger.warning("a wrong API key was sent from %s; its SHA-256 begins with %s", address, digest[:_LOGGED_DIGITS])


def count_sign_in(owner: str) -> None:
    """Count that a person signs in with a valid key.

    Raises
    ------
    LimitError
        The key was used too often.
    """
    if wait_s := _get_limiter().count(SIGN_IN_LIMIT, "sign-ins", owner):
        raise LimitError(text("rate-exceeded", limit=str(SIGN_IN_LIMIT)), wait_s)


def _get_limiter() -> _Limiter:
    limiter: _Limiter = current_app.extensions[_EXTENSION]
    return limiter


def _add_retry_after(response: Response) -> Response:
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS and RESET_AFTER in response.headers:
        response.headers["Retry-After"] = response.headers[RESET_AFTER]
    return response


def _convert_redis_url(url: str) -> str:
    """Convert a Redis URL from redis-py's form to that of the library ``limits``; only URLs of Unix sockets differ."""
    return f"redis+{url}" if url.startswith("unix://") else url
