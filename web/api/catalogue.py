"""What can be asked for: data sets, models and devices."""

from dataclasses import asdict

from flask import Response, jsonify

from shared import models
from shared.datasets import BUILTINS
from web.api import blueprint
from web.context import get_services
from web.documents import write_devices


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


@blueprint.get("/models")
def list_models() -> Response:
    """List the music models, with how they generate where a job does not say."""
    return jsonify(
        models=[
            {
                "name": card.name,
                "title": card.title,
                "state": card.state,
                "channels": card.channels,
                "parameters": card.parameters,
                "defaults": asdict(card.defaults),
                "licence": card.licence,
                "licence_url": card.licence_url,
                "note": card.note,
            }
            for card in models.list_models(get_services().settings)
        ]
    )


@blueprint.get("/devices")
def list_devices() -> Response:
    """List the classes of device with their workers and their load."""
    with get_services().database.reading() as session:
        return jsonify(devices=write_devices(session))
