"""A baseline for the web: an application of Flask and SQLAlchemy only, which returns the row of a job by its id."""

from concurrent.futures import ThreadPoolExecutor

from flask import Flask, Response, jsonify
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from shared.database.tables import Job
from shared.settings import load_settings
from web.asgi import ThreadedApplication


def make_application() -> ThreadedApplication:
    """Make the application for the server of the service, which gives it as many threads."""
    threads = ThreadPoolExecutor(load_settings().web_threads, "request")
    return ThreadedApplication(create_app().wsgi_app, threads, wait_for_nothing)


async def wait_for_nothing(_uploads: frozenset[str], _seconds: float) -> None:
    """Return at once: the baseline has no inspections."""


def create_app() -> Flask:
    app = Flask(__name__)
    address = load_settings().database.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(address)
    names = [column.key for column in Job.__mapper__.column_attrs]

    @app.get("/healthz")
    def show_health() -> str:
        return ""

    @app.get("/api/v1/jobs/<job_id>")
    def show_job(job_id: str) -> Response:
        with Session(engine) as session:
            job = session.get(Job, job_id)
            return jsonify({name: getattr(job, name) for name in names})

    return app
