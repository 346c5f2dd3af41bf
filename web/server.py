"""How gunicorn serves the application; read by ``gunicorn --config python:web.server``."""

import gc

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from shared.logs import make_formatter
from shared.settings import load_settings

_settings = load_settings()

wsgi_app = "web:create_app()"
bind = _settings.authority
# Threads, since a request mostly waits: for a database, or for a job to change.
worker_class = "gthread"
workers = _settings.web_processes
threads = _settings.web_threads
graceful_timeout = 2
timeout = 120
keepalive = 5


class ServerLog(Logger):  # type: ignore[misc]  # it carries no types
    """gunicorn's own log, whose lines are written as all others."""

    def setup(self, cfg: Config) -> None:
        """See ``gunicorn.glogging.Logger``."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(make_formatter(_settings))


logger_class = ServerLog
loglevel = _settings.log_level.lower()
# Nobody uses it, and its default place is in the home folder.
control_socket_disable = True


def post_worker_init(worker: Worker) -> None:  # noqa: ARG001 - gunicorn's interface
    """Take what was loaded for good out of the garbage collector's sight: it looked through it for 80 ms at a time."""
    gc.collect()
    gc.freeze()
