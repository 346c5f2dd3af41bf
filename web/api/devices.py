"""Device classes, with their workers and their load."""

from shared.schemas import responses
from web.api import blueprint
from web.context import get_services
from web.serializers import serialize_devices


@blueprint.get("/devices")
def list_devices() -> responses.DeviceList:
    """List the device classes, with their workers and their load."""
    services = get_services()
    with services.database.reading() as session:
        return {"devices": serialize_devices(session, services.settings.stalled_worker_shown_s)}
