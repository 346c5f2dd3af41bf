"""The pages: a form per kind of job, the list of jobs, and a job."""

from flask import Blueprint

blueprint = Blueprint("pages", __name__)

from web.pages import views  # noqa: E402, F401 - it adds its views to the blueprint
