"""How gunicorn serves the application; read by ``gunicorn --config python:web.server``."""

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
loglevel = _settings.log_level.lower()
# Nobody uses it, and its default place is in the home folder.
control_socket_disable = True
