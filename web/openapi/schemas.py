"""The schemas to which the OpenAPI document refers, as pydantic generates them."""

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from shared.kinds import KINDS
from shared.schemas import responses
from shared.schemas.submission import Submission
from web.kinds import PAGES
from web.list_query import ListQuery, PageQuery, RetryQuery
from web.openapi.operation import SCHEMAS, Node, refer

_TYPES: Final[tuple[Any, ...]] = (
    Submission,
    *(spec.params for spec in KINDS.values()),
    *(spec.result for spec in KINDS.values()),
    ListQuery,
    PageQuery,
    RetryQuery,
    responses.Job,
    responses.JobList,
    responses.Upload,
    responses.UploadSummary,
    responses.UploadList,
    *(schema for pages in PAGES.values() if pages.api is not None for schema in pages.api.schemas),
    responses.DeviceList,
    responses.Problem,
    responses.Liveness,
    responses.Readiness,
)


class _SchemaGenerator(GenerateJsonSchema):
    """Omits titles that only repeat a field's name, and shortens the schema names of classes that share their name."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - pydantic's interface
        return False

    def normalize_name(self, name: str) -> str:
        """Shorten the full name that pydantic uses for a class whose own name is not unique.

        ``shared.schemas.submission.Webhook`` becomes ``SubmissionWebhook``.
        """
        *modules, own = name.split(".")
        return super().normalize_name("".join(module.capitalize() for module in modules[2:]) + own)


def build_schemas() -> dict[str, Node]:
    """Generate all schemas, keyed by name."""
    inputs = [(each.__name__, "validation", TypeAdapter[Any](each)) for each in _TYPES]
    _, generated = TypeAdapter.json_schemas(
        inputs,  # type: ignore[arg-type]  # the mode is a literal
        ref_template=f"{SCHEMAS}{{model}}",
        schema_generator=_SchemaGenerator,
    )
    schemas: dict[str, Node] = generated["$defs"]
    _convert_descriptions(schemas)
    schemas |= dict(_split_by_kind("Submission", schemas["Submission"]))
    schemas |= dict(_split_by_kind("Job", schemas["Job"]))
    return schemas


def build_query_parameters(schema: Node) -> list[Node]:
    """Describe the fields of a query's schema as query parameters.

    A query cannot contain null: instead of sending null, a client leaves out the parameter. So null is removed from the
    types of the fields.
    """
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
    """Split the schema ``whole`` into one schema per kind.

    Yield the name and the schema of each kind, with the kind's own types of parameters and result. Then yield ``name``
    and the union of these schemas.
    """
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


def _convert_descriptions(node: Any) -> None:  # noqa: ANN401 - JSON
    """Convert all descriptions, which are docstrings, to CommonMark, in place."""
    for part in node.values() if isinstance(node, dict) else node:
        if isinstance(part, dict | list):
            _convert_descriptions(part)
    if isinstance(node, dict) and isinstance(node.get("description"), str):
        node["description"] = convert_docstring(node["description"])


def convert_docstring(docstring: str) -> str:
    """Convert a docstring to CommonMark."""
    return cleandoc(docstring).replace("``", "`")
