"""The schemas that the document refers to, as pydantic writes them."""

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from shared.kinds import KINDS
from shared.schemas import responses
from shared.schemas.submission import Submission
from web.list_query import ListQuery
from web.openapi.operation import SCHEMAS, Node, refer

_SHAPES: Final[tuple[Any, ...]] = (
    Submission,
    *(spec.params for spec in KINDS.values()),
    *(spec.result for spec in KINDS.values()),
    ListQuery,
    responses.Job,
    responses.JobList,
    responses.Upload,
    responses.ModelList,
    responses.DatasetList,
    responses.DeviceList,
    responses.Problem,
    responses.Liveness,
    responses.Readiness,
)


class _Plain(GenerateJsonSchema):
    """Leaves out titles that only repeat a field's name."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - pydantic's interface
        return False


def build_schemas() -> dict[str, Node]:
    """Write every schema, by name."""
    shapes = [(shape.__name__, "validation", TypeAdapter[Any](shape)) for shape in _SHAPES]
    _, written = TypeAdapter.json_schemas(
        shapes,  # type: ignore[arg-type]  # it takes the mode for any text
        ref_template=f"{SCHEMAS}{{model}}",
        schema_generator=_Plain,
    )
    schemas: dict[str, Node] = written["$defs"]
    _mend_descriptions(schemas)
    schemas |= dict(_split_by_kind("Submission", schemas["Submission"]))
    schemas |= dict(_split_by_kind("Job", schemas["Job"]))
    return schemas


def build_query_parameters(schema: Node) -> list[Node]:
    """Write the fields of a query's schema as parameters; a query has no null, its fields are left out."""
    return [
        {
            "name": name,
            "in": "query",
            "schema": next((part for part in field.get("anyOf", []) if part != {"type": "null"}), field),
            **({"description": field["description"]} if "description" in field else {}),
        }
        for name, field in schema["properties"].items()
    ]


def _split_by_kind(name: str, whole: Node) -> Iterator[tuple[str, Node]]:
    """Say which parameters and results belong to which kind: yield the schema of each, and then their choice."""
    parts = {kind: f"{kind.capitalize()}{name}" for kind in KINDS}
    for kind, spec in KINDS.items():
        own = {"kind": {"type": "string", "const": str(kind)}, "params": refer(spec.params.__name__)}
        if "result" in whole["properties"]:
            own["result"] = {"anyOf": [refer(spec.result.__name__), {"type": "null"}]}
        fields: Node = dict(whole["properties"])
        for field, schema in own.items():
            fields[field] = {key: text for key, text in fields[field].items() if key == "description"} | schema
        yield parts[kind], whole | {"title": parts[kind], "properties": fields}
    yield (
        name,
        {
            "description": whole["description"],
            "oneOf": [refer(part) for part in parts.values()],
            "discriminator": {
                "propertyName": "kind",
                "mapping": {str(kind): SCHEMAS + part for kind, part in parts.items()},
            },
        },
    )


def _mend_descriptions(node: Any) -> None:  # noqa: ANN401 - JSON
    """Turn docstrings into CommonMark, in place."""
    for part in node.values() if isinstance(node, dict) else node:
        if isinstance(part, dict | list):
            _mend_descriptions(part)
    if isinstance(node, dict) and isinstance(node.get("description"), str):
        node["description"] = mend(node["description"])


def mend(docstring: str) -> str:
    """Write a docstring as CommonMark."""
    return cleandoc(docstring).replace("``", "`")
