"""The web: forms and the HTTP API in, rows and bells out. A thin Flask application."""

from flask import Flask

from shared.logs import set_up_logging
from shared.services import Services
from shared.settings import Settings, load_settings
from web import api, errors, health, pages, requests
from web.waiting import WaitingRoom


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application.

    Parameters
    ----------
    settings
        How this instance runs; read from the environment where they are not given.
    """
    settings = settings or load_settings()
    set_up_logging(settings.log_level)
    app = Flask(__name__)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the contract's order reads better
    app.extensions["mindjobs"] = Services.open(settings)
    # Half of the threads may sleep in long polls; the other half answers.
    app.extensions["mindjobs.waiting"] = WaitingRoom(max(1, settings.web_threads // 2))
    app.config["TRUSTED_HOSTS"] = settings.host_names
    app.config["MAX_CONTENT_LENGTH"] = settings.body_bytes_most
    requests.add_to(app)
    errors.add_to(app)
    app.register_blueprint(api.blueprint)
    app.register_blueprint(health.blueprint)
    app.register_blueprint(pages.blueprint)
    return app
