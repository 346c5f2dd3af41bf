"""The configuration of gunicorn: ``gunicorn --config python:web.server`` reads this module."""

import gc

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from shared.logs import make_formatter
from shared.settings import load_settings

_settings = load_settings()

wsgi_app = "web:create_app()"
bind = _settings.authority
# Each process uses threads, since a request mostly waits: for the database, or for a change of a job.
worker_class = "gthread"
workers = _settings.web_processes
threads = _settings.web_threads
graceful_timeout = 2
timeout = 120
keepalive = 5
# web.proxies reads the headers of proxies.
forwarded_allow_ips = ""


class ServerLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own log, in the same format as all other logs."""

    def setup(self, cfg: Config) -> None:
        """Set up gunicorn's logs, and format the error log like all other logs."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(make_formatter(_settings))


logger_class = ServerLog
loglevel = _settings.log_level.lower()
# The control socket is not used, and gunicorn would create it in the user's home folder.
control_socket_disable = True


def post_worker_init(worker: Worker) -> None:  # noqa: ARG001 - gunicorn's interface
    """Exclude the objects that stay in memory from garbage collection, which would scan them for 80 ms at a time."""
    gc.collect()
    gc.freeze()
