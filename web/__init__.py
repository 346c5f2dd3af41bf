"""The web application: it turns requests into database rows and wake-up messages, and rows into responses and pages."""

from pathlib import Path
from typing import Final

from flask import Flask
from flask_bootstrap import Bootstrap5
from flask_wtf import CSRFProtect
from jinja2 import ChoiceLoader, FileSystemLoader, PrefixLoader

from shared.database import patience
from shared.logs import set_up_logging
from shared.services import Services
from shared.settings import Settings, load_settings
from web import (
    api,
    auth,
    cache_control,
    cors,
    errors,
    health,
    metrics,
    pages,
    proxies,
    rate_limits,
    request_hooks,
    security_headers,
    session,
)
from web.context import EXTENSION, WebContext
from web.key_cache import KeyCache
from web.kinds import PAGES
from web.long_poll import LongPollSlots
from web.pages import new_job

_KINDS: Final = Path(__file__).parent / "kinds"


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application.

    Parameters
    ----------
    settings
        The settings of this instance. If no settings are given, they are read from the environment.
    """
    settings = settings or load_settings()
    set_up_logging(settings)
    app = Flask(__name__)
    # Each kind of job has its templates in its own folder: "KIND/form.html" is web/kinds/KIND/templates/form.html.
    of_kinds = PrefixLoader({str(kind): FileSystemLoader(_KINDS / kind / "templates") for kind in PAGES})
    app.jinja_loader = ChoiceLoader([FileSystemLoader(Path(app.root_path, "templates")), of_kinds])
    app.jinja_env.globals["kinds"] = PAGES
    app.json.sort_keys = False  # type: ignore[attr-defined]  # keeps the schemas' field order, which is easier to read
    app.extensions[EXTENSION] = _make_context(settings)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["BOOTSTRAP_SERVE_LOCAL"] = True  # Bootstrap's files come from this server as well
    Bootstrap5(app)
    request_hooks.init_app(app)
    proxies.init_app(app)
    cors.init_app(app)
    security_headers.init_app(app)
    cache_control.init_app(app)
    session.init_app(app)
    auth.init_app(app)
    new_job.init_app(app)
    errors.init_app(app)
    app.register_blueprint(api.blueprint)
    app.register_blueprint(health.blueprint)
    app.register_blueprint(metrics.blueprint)
    app.register_blueprint(pages.blueprint)
    rate_limits.init_app(app, auth.get_owner)
    csrf = CSRFProtect(app)
    for blueprint in (api.blueprint, *api.kind_blueprints):
        csrf.exempt(blueprint)  # no token needed: programs send keys, and a session may only read the API
    return app


def _make_context(settings: Settings) -> WebContext:
    services = Services.open(settings, patience.WEB)
    return WebContext(
        services=services,
        long_poll_slots=LongPollSlots(settings.web_threads),
        key_cache=KeyCache(services.database),
        metrics=metrics.make_registry(services),
    )
