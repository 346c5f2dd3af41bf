"""The home page."""

from typing import Final

from flask import render_template

from shared.database.queries import JobFilter
from web.auth import get_visible_owner
from web.context import get_services
from web.pages import blueprint
from web.serializers import serialize_devices, serialize_page

NEWEST_JOBS: Final = 10


@blueprint.get("/")
def show_home() -> str:
    """Show the links to the forms, the load of the devices, and the newest jobs."""
    services = get_services()
    with services.database.reading() as session:
        jobs, _ = serialize_page(session, JobFilter(get_visible_owner()), limit=NEWEST_JOBS)
        devices = serialize_devices(session, services.settings.stalled_worker_shown_s)
    return render_template("pages/home.html", jobs=jobs, devices=devices)
