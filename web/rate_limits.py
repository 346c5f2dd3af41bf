"""Limits the requests per minute of each API key, and the attempts to sign in from each address."""

from http import HTTPStatus
from typing import Any, Final

from flask import Flask, Response, request
from flask_limiter import ApplicationLimit, HeaderNames, Limiter
from flask_limiter.util import get_remote_address
from typing_extensions import override

from shared.broker import CONNECT_TIMEOUT_S, RESPONSE_TIMEOUT_S
from shared.jobs import ANONYMOUS
from web.auth import get_owner
from web.context import get_context
from web.request_body import JUDGED

SIGN_IN_LIMIT: Final = "10 per minute"
RESET_AFTER: Final = "X-RateLimit-Reset-After"
_SIGN_IN: Final = "pages.sign_in"
# The library ``limits`` passes these timeouts to redis-py, which accepts fractions of a second.
_TIMEOUTS: Final[dict[str, Any]] = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": RESPONSE_TIMEOUT_S}


class _Limiter(Limiter):
    @override
    def _check_request_limit(self, callable_name: str | None = None, in_middleware: bool = True) -> None:
        """Check the limits of a request. Anonymous requests are skipped: only their attempts to sign in have a limit.

        A request that waited for its body was counted when its head was judged.

        ``flask_limiter.Limiter`` would also find that a request has no limit, but this would take a tenth of the time
        of a poll.
        """
        if JUDGED not in request.environ and (not _is_anonymous() or request.endpoint == _SIGN_IN):
            super()._check_request_limit(callable_name, in_middleware)


def init_app(app: Flask) -> None:
    """Count requests in Redis for all processes together, or in this process alone while Redis does not answer."""
    settings = get_context(app).services.settings
    app.after_request(_add_retry_after)  # runs after the limiter's own after_request function
    limiter = _Limiter(
        key_func=get_owner,
        application_limits=[ApplicationLimit(f"{settings.requests_per_minute} per minute", exempt_when=_is_anonymous)],
        storage_uri=_convert_redis_url(settings.redis),
        storage_options=_TIMEOUTS,
        in_memory_fallback_enabled=True,
        headers_enabled=True,
        # The limiter would set Retry-After on every response, and would replace the value that tells a client when to
        # read a job again. So the limiter sets another header.
        header_name_mapping={HeaderNames.RETRY_AFTER: RESET_AFTER},
        key_prefix="mindjobs",
    )
    limiter.init_app(app)
    limit_sign_ins = limiter.limit(SIGN_IN_LIMIT, key_func=get_remote_address, methods=["POST"])
    limited: Any = limit_sign_ins(app.view_functions[_SIGN_IN])
    app.view_functions[_SIGN_IN] = limited


def _is_anonymous() -> bool:
    return get_owner() == ANONYMOUS


def _add_retry_after(response: Response) -> Response:
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS and RESET_AFTER in response.headers:
        response.headers["Retry-After"] = response.headers[RESET_AFTER]
    return response


def _convert_redis_url(url: str) -> str:
    """Convert a Redis URL from redis-py's form to that of the library ``limits``; only URLs of Unix sockets differ."""
    return f"redis+{url}" if url.startswith("unix://") else url
