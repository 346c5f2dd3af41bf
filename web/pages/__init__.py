"""The pages: a form per kind of job, the list of jobs, and a job."""

from flask import Blueprint

blueprint = Blueprint("pages", __name__)

from web.pages import sign_in, views  # noqa: E402, F401 - they add their views to the blueprint
