"""The web: forms and the HTTP API in, rows and bells out. A thin Flask application."""

from pathlib import Path
from typing import Final

from flask import Flask
from flask_bootstrap import Bootstrap5
from flask_wtf import CSRFProtect
from jinja2 import ChoiceLoader, FileSystemLoader, PrefixLoader

from shared.jobs import Kind
from shared.logs import set_up_logging
from shared.services import Services
from shared.settings import Settings, load_settings
from web import api, auth, errors, health, metrics, pages, rate_limits, request_hooks
from web.long_poll import LongPollSlots
from web.pages import new_job

_KINDS: Final = Path(__file__).parent / "kinds"


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application.

    Parameters
    ----------
    settings
        How this instance runs; read from the environment where they are not given.
    """
    settings = settings or load_settings()
    set_up_logging(settings)
    app = Flask(__name__)
    # A kind of job keeps its templates in its own folder: "knn/form.html".
    own = PrefixLoader({str(kind): FileSystemLoader(_KINDS / kind / "templates") for kind in Kind})
    app.jinja_loader = ChoiceLoader([FileSystemLoader(Path(app.root_path, "templates")), own])
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the contract's order reads better
    app.extensions["mindjobs"] = Services.open(settings)
    # Half of the threads may sleep in long polls; the other half answers.
    app.extensions["mindjobs.waiting"] = LongPollSlots(max(1, settings.web_threads // 2))
    app.config["TRUSTED_HOSTS"] = settings.host_names
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["BOOTSTRAP_SERVE_LOCAL"] = True  # nothing comes from another host
    app.config["WTF_CSRF_TIME_LIMIT"] = None  # a form may lie open for as long as its session
    Bootstrap5(app)
    request_hooks.init_app(app)
    auth.init_app(app)
    app.before_request(new_job.let_files_in)  # before the tokens of forms are looked for in them
    errors.init_app(app)
    app.register_blueprint(api.blueprint)
    app.register_blueprint(health.blueprint)
    metrics.init_app(app)
    app.register_blueprint(pages.blueprint)
    rate_limits.init_app(app)
    forgery = CSRFProtect(app)
    forgery.exempt(api.blueprint)  # programs send keys, and cookies may only look there
    return app
