"""Builds the OpenAPI document from the routes and from the table of operations."""

import re
from typing import Final

from flask import Flask
from werkzeug.routing import Rule

from web.auth import OPEN_ENDPOINTS
from web.openapi.components import HEADERS, PARAMETERS, PROBLEMS
from web.openapi.operation import Node, Operation, Response, describe_content, refer
from web.openapi.operations import OPERATIONS
from web.openapi.schemas import build_query_parameters, build_schemas, convert_docstring

_PATH_PARAMETER: Final = re.compile(r"<(?:(\w+):)?(\w+)>")
_COMMON_PROBLEMS: Final = (400, 500)
_PROBLEMS_WITH_KEY: Final = (401, 429, 503)
_DESCRIPTION: Final = (
    "Submit a job, read it until it has ended, and download its files. Times are RFC 3339 in UTC, and errors are "
    "`application/problem+json` (RFC 9457)."
)


def build_document(app: Flask) -> Node:
    """Build the OpenAPI document, which describes every operation of the API."""
    schemas = build_schemas()
    queries = {name: build_query_parameters(schemas.pop(name)) for name in ("ListQuery", "PageQuery", "RetryQuery")}
    rules = {rule.endpoint: rule for rule in app.url_map.iter_rules()}
    paths: dict[str, Node] = {}
    for endpoint, operation in OPERATIONS.items():
        rule = rules[endpoint]
        summary = convert_docstring((app.view_functions[endpoint].__doc__ or "").partition("\n")[0]).rstrip(".")
        node = _build_operation(rule, operation, summary, queries)
        paths.setdefault(_PATH_PARAMETER.sub(r"{\2}", rule.rule), {})[list_methods(rule)[0].lower()] = node
    return {
        "openapi": "3.1.0",
        "info": {"title": "mindjobs", "version": "1", "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"key": []}, {}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in OPERATIONS.values())],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": dict(HEADERS),
            "parameters": dict(PARAMETERS),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key of this instance. On loopback, no key is needed until the first key is "
                    "created.",
                }
            },
        },
    }


def list_methods(rule: Rule) -> list[str]:
    """List the methods of a route, without the methods that Flask adds by itself."""
    return sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})


def _build_operation(rule: Rule, operation: Operation, summary: str, queries: dict[str, list[Node]]) -> Node:
    path_parameters = _PATH_PARAMETER.findall(rule.rule)
    parameters = [_build_path_parameter(name, converter) for converter, name in path_parameters]
    parameters += queries[operation.query] if operation.query else []
    parameters += [{"$ref": f"#/components/parameters/{name}"} for name in operation.parameters]
    is_open = rule.endpoint in OPEN_ENDPOINTS
    problems = {*_COMMON_PROBLEMS, *operation.problems, *(() if is_open else _PROBLEMS_WITH_KEY)}
    problems |= ({404} if path_parameters else set()) | (set() if list_methods(rule) == ["GET"] else {403})
    problems |= {415} if operation.body else set()
    responses = {status: _build_problem(status) for status in problems - set(operation.responses)}
    responses |= {status: _build_response(response) for status, response in operation.responses.items()}
    return {
        "operationId": rule.endpoint.rpartition(".")[2],
        "tags": [operation.tag],
        "summary": summary,
        **({"security": []} if is_open else {}),
        **({"parameters": parameters} if parameters else {}),
        **({"requestBody": {"required": True, "content": operation.body}} if operation.body else {}),
        "responses": {str(status): responses[status] for status in sorted(responses)},
    }


def _build_path_parameter(name: str, converter: str) -> Node:
    schema = {"type": "string"} | ({"format": "uuid"} if converter == "uuid" else {})
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _build_response(response: Response) -> Node:
    names = response.headers if response.by_server else ("X-Request-ID", *response.headers)
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    content = {"content": response.content} if response.content else {}
    return {"description": response.description, "headers": headers, **content}


def _build_problem(status: int) -> Node:
    headers = {401: ("WWW-Authenticate",), 415: ("Accept-Encoding",), 429: ("Retry-After",), 503: ("Retry-After",)}.get(
        status, ()
    )
    problem = describe_content("application/problem+json", refer("Problem"))
    return _build_response(Response(PROBLEMS[status], problem, headers))
