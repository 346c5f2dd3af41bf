"""The pages: home, a form per kind of job, the list of jobs, a job, and the sign-in."""

from flask import Blueprint

blueprint = Blueprint("pages", __name__)

from web.pages import home, job, job_list, new_job, sample_actions, sign_in  # noqa: E402, F401 - they add their views to the blueprint
