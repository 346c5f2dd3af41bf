"""What can be asked for: data sets, models and devices."""

from shared.kinds.knn.datasets import BUILTINS, Builtin
from shared.kinds.musicgen import catalogue
from shared.kinds.musicgen.catalogue import ModelCard
from shared.schemas import responses
from web.api import blueprint
from web.context import get_services
from web.serializers import serialize_devices


@blueprint.get("/datasets")
def list_datasets() -> responses.DatasetList:
    """List the data sets that come with the service."""
    return {"datasets": [_serialize_dataset(dataset) for dataset in BUILTINS.values()]}


@blueprint.get("/models")
def list_models() -> responses.ModelList:
    """List the music models, with how they generate where a job does not say."""
    return {"models": [_serialize_model(card) for card in catalogue.list_models(get_services().settings)]}


@blueprint.get("/devices")
def list_devices() -> responses.DeviceList:
    """List the classes of device with their workers and their load."""
    with get_services().database.reading() as session:
        return {"devices": serialize_devices(session)}


def _serialize_dataset(dataset: Builtin) -> responses.Dataset:
    return {
        "name": dataset.name,
        "title": dataset.title,
        "rows": dataset.rows,
        "columns": list(dataset.columns),
        "label": dataset.label,
        "classes": list(dataset.classes),
        "source": dataset.source,
        "licence": dataset.licence,
    }


def _serialize_model(card: ModelCard) -> responses.Model:
    defaults = card.defaults
    return {
        "name": card.name,
        "title": card.title,
        "state": card.state,
        "channels": card.channels,
        "parameters": card.parameters,
        "defaults": {
            "do_sample": defaults.do_sample,
            "guidance_scale": defaults.guidance_scale,
            "temperature": defaults.temperature,
            "top_k": defaults.top_k,
            "top_p": defaults.top_p,
            "max_new_tokens": defaults.max_new_tokens,
        },
        "licence": card.licence,
        "licence_url": card.licence_url,
        "note": card.note,
    }
