"""A baseline for the web: an application of Flask and SQLAlchemy only, which returns the row of a job by its id."""

from flask import Flask, Response, jsonify
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from shared.database.tables import Job
from shared.settings import load_settings


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
