"""What can be asked for: data sets and devices."""

from flask import Response, jsonify

from shared import queries
from shared.datasets import BUILTINS
from shared.jobs import DeviceClass, State
from web.api import blueprint
from web.context import get_services


@blueprint.get("/datasets")
def list_datasets() -> Response:
    """List the data sets that come with the service."""
    return jsonify(
        datasets=[
            {
                "name": dataset.name,
                "title": dataset.title,
                "rows": dataset.rows,
                "columns": list(dataset.columns),
                "label": dataset.label,
                "classes": list(dataset.classes),
                "source": dataset.source,
                "licence": dataset.licence,
            }
            for dataset in BUILTINS.values()
        ]
    )


@blueprint.get("/devices")
def list_devices() -> Response:
    """List the classes of device with their workers and their load."""
    with get_services().database.reading() as session:
        workers = queries.list_live_workers(session)
        load = queries.count_by_device(session)
    return jsonify(
        devices=[
            {
                "device": device,
                "workers_alive": sum(worker.device == device for worker in workers),
                "engines": {
                    kind: engine
                    for worker in workers
                    if worker.device == device
                    for kind, engine in worker.engines.items()
                },
                "queued": load.get((device, State.QUEUED), 0),
                "running": load.get((device, State.RUNNING), 0),
            }
            for device in DeviceClass
        ]
    )
