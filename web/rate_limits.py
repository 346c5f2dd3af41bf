"""How much a key may ask for in a minute, and an address may try keys."""

from http import HTTPStatus
from typing import Any, Final

from flask import Flask, Response, request
from flask_limiter import ApplicationLimit, HeaderNames, Limiter
from flask_limiter.util import get_remote_address
from typing_extensions import override

from shared.broker import RESPONSE_TIMEOUT_S, CONNECT_TIMEOUT_S
from shared.jobs import ANONYMOUS
from web.auth import get_owner

SIGN_INS: Final = "10 per minute"
RESET_AFTER: Final = "X-RateLimit-Reset-After"
_SIGN_IN: Final = "pages.sign_in"
# limits passes them on to redis-py, which takes fractions.
_TIMEOUTS: Final[dict[str, Any]] = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": RESPONSE_TIMEOUT_S}


class _Limiter(Limiter):
    @override
    def _check_request_limit(self, callable_name: str | None = None, in_middleware: bool = True) -> None:
        """See ``flask_limiter.Limiter``; to find that there is no limit took it a tenth of a poll."""
        if not _is_nobodys() or request.endpoint == _SIGN_IN:
            super()._check_request_limit(callable_name, in_middleware)


def init_app(app: Flask) -> None:
    """Count requests in Redis, for all processes together; in this one alone while Redis does not answer."""
    settings = app.extensions["mindjobs"].settings
    app.after_request(_say_when_to_retry)  # which runs after the limiter's own
    limiter = _Limiter(
        key_func=get_owner,
        application_limits=[ApplicationLimit(f"{settings.requests_per_minute} per minute", exempt_when=_is_nobodys)],
        storage_uri=_write_for_limits(settings.redis),
        storage_options=_TIMEOUTS,
        in_memory_fallback_enabled=True,
        headers_enabled=True,
        # It would write Retry-After into every answer, and over the one that says when to look at a job again.
        header_name_mapping={HeaderNames.RETRY_AFTER: RESET_AFTER},
        key_prefix="mindjobs",
    )
    limiter.init_app(app)
    limited: Any = limiter.limit(SIGN_INS, key_func=get_remote_address, methods=["POST"])(app.view_functions[_SIGN_IN])
    app.view_functions[_SIGN_IN] = limited


def _is_nobodys() -> bool:
    return get_owner() == ANONYMOUS


def _say_when_to_retry(response: Response) -> Response:
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS and RESET_AFTER in response.headers:
        response.headers["Retry-After"] = response.headers[RESET_AFTER]
    return response


def _write_for_limits(url: str) -> str:
    """Write an address as limits does, which spells Unix sockets differently from redis-py."""
    return f"redis+{url}" if url.startswith("unix://") else url
