"""The pages for people: forms, a job's page, the list of jobs."""

from flask import Blueprint

blueprint = Blueprint("pages", __name__)

from web.kinds.musicgen import sample_actions  # noqa: E402, F401 - it adds its views to the blueprint
from web.pages import home, job, job_list, new_job, sign_in  # noqa: E402, F401 - they add their views to the blueprint
