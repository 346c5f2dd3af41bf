"""The configuration of gunicorn, which reads this module with ``gunicorn --config python:web.server``."""

import gc

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from shared.logs import make_formatter
from shared.settings import load_settings

_settings = load_settings()

wsgi_app = "web:create_app()"
bind = _settings.authority
# Threads, since requests mostly wait: for the database, or for a job to change.
worker_class = "gthread"
workers = _settings.web_processes
threads = _settings.web_threads
graceful_timeout = 2
timeout = 120
keepalive = 5


class ServerLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own log, in the same format as all other logs."""

    def setup(self, cfg: Config) -> None:
        """See ``gunicorn.glogging.Logger``."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(make_formatter(_settings))


logger_class = ServerLog
loglevel = _settings.log_level.lower()
# It is not used, and its default location is in the home folder of the user.
control_socket_disable = True


def post_worker_init(worker: Worker) -> None:  # noqa: ARG001 - gunicorn's interface
    """Exclude what is loaded for good from garbage collection, which would scan it for 80 ms at a time."""
    gc.collect()
    gc.freeze()
