"""The API's list of music models."""

from collections.abc import Mapping
from typing import Final

from flask import Blueprint
from typing_extensions import TypedDict  # pydantic reads typing.TypedDict only from Python 3.12 on

from shared.jobs import Kind
from shared.kinds.musicgen import catalogue
from shared.kinds.musicgen.catalogue import Availability, ModelCard
from shared.schemas.documented import documented
from shared.texts import render
from web.context import get_services
from web.openapi.operation import Operation, describe_json

blueprint = Blueprint(Kind.MUSICGEN, __name__)

OPERATIONS: Final[Mapping[str, Operation]] = {
    "list_models": Operation("Catalogue", {200: describe_json("The models.", "ModelList")}),
}


@documented
class GenerationDefaults(TypedDict):
    """The parameters with which a model generates if a job does not set them."""

    do_sample: bool
    guidance_scale: float
    temperature: float
    top_k: int
    top_p: float
    max_new_tokens: int


@documented
class Model(TypedDict):
    """A music model."""

    name: str
    title: str
    state: Availability
    channels: int
    """1 for mono, 2 for stereo."""
    parameters: int | None
    """The number of parameters of the language model alone."""
    defaults: GenerationDefaults
    licence: str
    licence_url: str | None
    note: str | None
    """What to know before choosing the model."""


@documented
class ModelList(TypedDict):
    """The music models."""

    models: list[Model]


@blueprint.get("/models")
def list_models() -> ModelList:
    """List the music models, with their generation defaults."""
    return {"models": [_serialize_model(card) for card in catalogue.list_models(get_services().settings)]}


def _serialize_model(card: ModelCard) -> Model:
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
        "note": render(card.note) if card.note else None,
    }
