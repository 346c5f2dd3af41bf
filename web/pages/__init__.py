"""The pages for people: forms, a job's page, the list of jobs."""

from flask import Blueprint

from web.kinds import PAGES

blueprint = Blueprint("pages", __name__)

from web.pages import home, job, job_list, new_job, sign_in  # noqa: E402, F401 - they add their views to the blueprint

for _pages in PAGES.values():
    if _pages.views is not None:
        blueprint.register_blueprint(_pages.views)
