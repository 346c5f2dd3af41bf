"""The OpenAPI document is complete, and the service behaves as the document describes."""

import json
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from flask import Flask
from flask.testing import FlaskClient
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from shared import api_keys
from shared.jobs import DeviceClass
from shared.kinds.knn.result import KnnResult
from shared.services import Services
from shared.submission import submit
from tests.integration.conftest import ServeWeb
from tests.support.job_outcomes import succeed
from tests.support.waiting import DEADLINE_S
from web.openapi.document import list_methods
from web.openapi.operations import OPERATIONS

DOCUMENT = "/api/v1/openapi.json"
KNN = {"kind": "knn", "device": "cpu"}
RESULT: KnnResult = {
    "scores": [{"k": 5, "accuracy": 0.75, "accuracy_std": None, "macro_f1": 0.75}],
    "best_k": 5,
    "classes": ["1", "2"],
    "confusion": [[2, 1], [0, 1]],
    "per_class": [{"class": name, "precision": 0.5, "recall": 1.0, "f1": 0.75, "support": 2} for name in ("1", "2")],
    "n_train": 128,
    "n_test": 4,
    "device": DeviceClass.CPU,
    "compute_s": 0.5,
    "preparation": None,
    "warnings": [],
}
CONFIGURATION = """
[checks.positive_data_acceptance]
# The schemas cannot say that an upload exists, that k is below the number of rows, or that an
# Idempotency-Key was first used with the same body.
expected-statuses = ["2xx", "304", "404", "409", "412", "416", "422"]

[checks.negative_data_rejection]
# 414: with very many invalid query parameters, the address is longer than the server reads.
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "414", "415", "422", "428", "429", "5xx"]

[[operations]]
include-operation-id = "stream_events"
enabled = false # a stream ends with its job, and no worker runs here

[[operations]]
include-operation-id = "get_artifact"
parameters = {{ job_id = "{job_id}", name = "{name}" }}
"""


@pytest.fixture
def document(client: FlaskClient) -> Any:
    response = client.get(DOCUMENT)
    assert response.status_code == 200
    return response.json


def list_references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(list_references(part) for part in node.values()))
    return set().union(*(list_references(part) for part in node)) if isinstance(node, list) else set()


def list_operations(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_document_describes_exactly_the_routes(app: Flask, document: Any) -> None:
    rules = [rule for rule in app.url_map.iter_rules() if not rule.endpoint.startswith(("pages.", "bootstrap."))]
    routes = {rule.endpoint: list_methods(rule) for rule in rules if rule.endpoint != "static"}
    assert set(routes) == set(OPERATIONS)
    assert all(len(methods) == 1 for methods in routes.values())
    described = Counter(
        (operation["operationId"], method.upper()) for method, _, operation in list_operations(document)
    )
    assert described == Counter(
        (endpoint.rpartition(".")[2], method) for endpoint, methods in routes.items() for method in methods
    )


def test_document_is_valid(document: Any) -> None:
    OPENAPI_31_VALIDATOR.validate(document)
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema)


def test_every_reference_can_be_resolved(document: Any) -> None:
    references = list_references(document)
    assert "#/components/schemas/KnnParams" in references
    assert not [reference for reference in references if "__" in reference], "names of Python modules"
    for reference in references:
        part = document
        for name in reference.removeprefix("#/").split("/"):
            assert name in part, reference
            part = part[name]


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        (KNN | {"params": {"k": [1, 3], "evaluation": {"method": "loo"}}}, True),
        (KNN, True),
        (KNN | {"params": {"dataset": {"upload": "u", "header": 1}}}, False),
        (KNN | {"params": {"evaluation": {"method": "holdout", "train_size": 0.7, "stratify": True}}}, True),
        (KNN | {"params": {"evaluation": {"method": "holdout", "train_size": 0, "stratify": "yes"}}}, False),
        ({"kind": "musicgen", "params": {"prompts": ["a"]}}, True),
        (KNN | {"params": {"prompts": ["a"]}}, False),
        ({"kind": "musicgen", "params": {"k": 3}}, False),
        ({"kind": "dance"}, False),
        (KNN | {"params": {"k": 0}}, False),
        (KNN | {"webhook": {"url": "ftp://example.com"}}, False),
    ],
)
def test_schema_of_a_submission_accepts_the_same_bodies_as_the_service(
    client: FlaskClient, document: Any, body: dict[str, Any], *, valid: bool
) -> None:
    validator = jsonschema_rs.validator_for(
        {"$ref": "#/components/schemas/Submission", "components": document["components"]}
    )
    assert validator.is_valid(body) is valid
    assert (client.post("/api/v1/jobs", json=body).status_code == 202) is valid


def test_document_states_for_each_operation_whether_a_key_is_required(client: FlaskClient, services: Services) -> None:
    key = api_keys.create_key(services.database, "some")
    document = client.get(DOCUMENT, headers={"Authorization": f"Bearer {key}"}).json
    for method, path, operation in list_operations(document):
        response = client.open(re.sub(r"{\w+}", "0" * 8 + "-0000" * 3 + "-" + "0" * 12, path), method=method.upper())
        assert (response.status_code == 401) is ("401" in operation["responses"]) is (operation.get("security") != [])
        if response.status_code == 401:
            assert response.headers["WWW-Authenticate"] == "Bearer"


class Outline(HTMLParser):
    """The structure of the documentation page: headings, anchors, links, and how often each tag occurs."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.anchors: set[str] = set()
        self.targets: set[str] = set()
        self.sources: list[str] = []
        self.tags: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "id" in values:
            assert values["id"] not in self.anchors
            self.anchors.add(values["id"])
        if values.get("href", "").startswith("#"):
            self.targets.add(values["href"][1:])
        if tag == "th":
            assert values["scope"] in {"row", "col"}
        self.sources += [values[name] for name in ("src", "srcset") if name in values]


def test_documentation_page_shows_every_operation_and_schema(client: FlaskClient, document: Any) -> None:
    response = client.get("/api/v1/docs")
    assert (response.status_code, response.mimetype) == (200, "text/html")
    page = Outline()
    page.feed(response.text)
    assert {operation["operationId"] for *_, operation in list_operations(document)} <= page.anchors
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= page.anchors
    assert page.targets <= page.anchors
    assert page.headings[0] == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert page.tags["style"] == 0
    assert page.tags["table"] == page.tags["caption"]
    assert page.sources == ["/static/theme.js"]


def finish_job(services: Services) -> tuple[str, str]:
    """Make a job that has succeeded with one artifact; return the id of the job and the name of the artifact."""
    job_id = submit.submit_job(services, KNN)[0].id
    succeed(services, job_id, RESULT, {"scores.csv": ("text/csv", b"0123456789")})
    return job_id, "scores.csv"


def test_request_with_the_etag_of_another_version_is_refused(client: FlaskClient, services: Services) -> None:
    job_id, name = finish_job(services)
    for url in (f"/api/v1/jobs/{job_id}", f"/api/v1/jobs/{job_id}/artifacts/{name}"):
        response = client.get(url, headers={"If-Match": '"another"'}, buffered=True)
        assert response.status_code == 412


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_service_behaves_as_described(serve_web: ServeWeb, services: Services, tmp_path: Path) -> None:
    """Schemathesis sends valid and invalid requests; ``--max-examples`` is the maximum of test cases per operation."""
    _, settings = serve_web(web_processes=1, web_threads=8)
    job_id, name = finish_job(services)
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION.format(job_id=job_id, name=name))
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "--no-color"]
    command += ["--config-file", str(configuration), "run", f"http://{settings.authority}{DOCUMENT}"]
    command += ["--generation-deterministic", "--max-examples", "10", "--report", "json"]
    command += ["--request-timeout", str(DEADLINE_S), "--suppress-health-check", "too_slow"]
    command += ["--report-json-path", str(tmp_path / "report.json")]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["operations"]["tested"] == len(OPERATIONS) - 2  # all except the event stream and the document itself
