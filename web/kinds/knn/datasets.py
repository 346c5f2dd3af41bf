"""The API's list of built-in data sets."""

from collections.abc import Mapping
from typing import Final

from flask import Blueprint
from typing_extensions import TypedDict  # pydantic reads typing.TypedDict only from Python 3.12 on

from shared.jobs import Kind
from shared.kinds.knn.datasets import BUILTINS, Builtin
from shared.schemas.documented import documented
from web.openapi.operation import Operation, describe_json

blueprint = Blueprint(Kind.KNN, __name__)

OPERATIONS: Final[Mapping[str, Operation]] = {
    "list_datasets": Operation("Catalogue", {200: describe_json("The data sets.", "DatasetList")}),
}


@documented
class Dataset(TypedDict):
    """A built-in data set."""

    name: str
    title: str
    rows: int
    columns: list[str]
    label: str
    """The column that is predicted."""
    classes: list[str]
    source: str
    licence: str


@documented
class DatasetList(TypedDict):
    """The built-in data sets."""

    datasets: list[Dataset]


@blueprint.get("/datasets")
def list_datasets() -> DatasetList:
    """List the built-in data sets."""
    return {"datasets": [_serialize_dataset(dataset) for dataset in BUILTINS.values()]}


def _serialize_dataset(dataset: Builtin) -> Dataset:
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
