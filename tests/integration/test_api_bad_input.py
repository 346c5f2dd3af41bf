"""For invalid input, the API returns a problem that names the field and the remedy. It queues and stores nothing."""

import io
import json
import re
import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from shared.database.tables import Upload
from shared.ids import make_id
from shared.services import Services
from shared.settings import Settings
from tests.integration.conftest import MakeApp
from tests.support.disks import fill_disk, list_keys
from tests.support.html_pages import send_form
from web import create_app
from web.context import get_context

GOOD = b"kind,a,b\nx,1,2\ny,2,3\nx,3,4\ny,4,5\n"


def upload(client: FlaskClient, content: bytes, **headers: str) -> str:
    response = client.post("/api/v1/uploads", data=content, headers={"Content-Type": "text/csv"} | headers)
    assert response.status_code == 201, response.text
    return str(response.json["id"])  # type: ignore[index]  # the body is a JSON object


def check_problem(response: TestResponse, status: int = 422) -> dict[str, str]:
    """Check a problem document, and return the details of its field problems, keyed by JSON pointer."""
    assert (response.status_code, response.content_type) == (status, "application/problem+json"), response.text
    body: Any = response.json
    assert body["status"] == status
    assert body["type"]
    assert body["title"]
    assert body["detail"]
    for problem in body.get("errors", []):
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", problem["code"])
    return {problem["pointer"]: problem["detail"] for problem in body.get("errors", [])}


def list_codes(response: TestResponse) -> dict[str, str]:
    """Return the codes of the field problems of a response, keyed by JSON pointer."""
    check_problem(response)
    body: Any = response.json
    return {problem["pointer"]: problem["code"] for problem in body["errors"]}


def submit(client: FlaskClient, params: object, **others: object) -> TestResponse:
    return client.post("/api/v1/jobs", json={"kind": "knn", "params": params} | others)


@pytest.fixture(autouse=True)
def check_nothing_is_queued(client: FlaskClient) -> Any:
    yield
    assert client.get("/api/v1/jobs").json == {"jobs": [], "next_cursor": None}


def test_submissions_and_uploads_are_refused_while_there_is_too_little_space(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"min_free_mb": 10**9}))
    client = app.test_client()
    for url, body in (("/api/v1/jobs", b'{"kind": "knn"}'), ("/api/v1/uploads", b"a,b")):
        response = client.post(url, data=body)
        assert response.status_code == 507
        assert response.json is not None
        assert response.json["type"] == "disk-full"
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json) == (503, {"status": "not ready", "unreachable": ["disk"]})
    get_context(app).services.close()


@pytest.mark.parametrize(
    ("content", "dataset", "pointer", "code", "words"),
    [
        (b"\n\n", {}, "upload", "file-empty", ""),
        (b"a,b\n", {}, "upload", "rows-missing", "below the header"),
        (b"a\n1\n2\n", {}, "upload", "one-column", ""),
        (b"k,a\nx,1\ny,2,3\n", {}, "upload", "bad-cell", "line 3 has 3 cells"),
        (b"k,a\nx,1\ny,inf\n", {}, "upload", "bad-cell", "line 3, column 'a': 'inf'"),
        (
            b"k,a\nx,1\ny,two\nx,3\ny,two\n",
            {"label": "k", "text_columns": "refuse"},
            "text_columns",
            "columns-of-text",
            "'a'",
        ),
        (b"k,a\nx,1\ny,nan\nx,4\n", {"label": "k", "missing": "refuse"}, "missing", "columns-with-gaps", "'a'"),
        (b"k,a\nx,3\nx,2\n", {"label": "k"}, "label", "label-one-class", "'x'"),
        (b"k,a\nx,1\ny,1\n", {"label": "k"}, "", "attributes-missing", ""),
        (GOOD, {"label": "colour"}, "label", "column-unknown", "'kind', 'a', 'b'"),
        (GOOD, {"label": 3}, "label", "column-index-unknown", "0 to 2"),
        (GOOD, {"label": "kind", "exclude": ["b", "kind"]}, "exclude/1", "label-excluded", "'kind'"),
        (GOOD, {"label": "kind", "columns": ["b", 2]}, "columns/1", "column-twice", "'b'"),
        (b"k,a,a\nx,1,2\ny,2,3\n", {"label": "a"}, "label", "column-ambiguous", "2 columns have the name 'a'"),
        (b"k,a\n" + b"x,1\n" * 30, {}, "upload", "rows-too-many", "more than 20 rows"),
        (b"k" + b",a" * 12 + b"\n", {}, "upload", "columns-too-many", "13 columns, more than 10"),
    ],
)
def test_unusable_table_is_refused(  # noqa: PLR0913, PLR0917 - pytest's parameters
    make_app: MakeApp, content: bytes, dataset: dict[str, object], pointer: str, code: str, words: str
) -> None:
    client = make_app(max_dataset_rows=20, max_dataset_columns=10).test_client()
    response = submit(client, {"dataset": {"upload": upload(client, content)} | dataset, "k": 1})
    pointer = f"/params/dataset/{pointer}".removesuffix("/")
    assert list_codes(response) == {pointer: code}
    assert words in check_problem(response)[pointer]


@pytest.mark.parametrize(
    ("params", "pointer", "code", "words"),
    [
        ({"k": 129}, "/params/k", "k-too-large", "1 to 128"),
        ({"k": [1, 178], "evaluation": {"method": "loo"}}, "/params/k", "k-too-large", "177 rows"),
        ({"k": 0}, "/params/k", "greater-than-equal", "at least 1"),
        ({"k": "5"}, "/params/k", "int-type", "whole number"),
        ({"k": [1, 2.5]}, "/params/k/1", "int-type", "whole number"),
        ({"k": []}, "/params/k", "too-short", "minimum of 1"),
        ({"metric": "cosine"}, "/params/metric", "enum", "'euclidean'"),
        ({"p": 3}, "/params/p", "p-without-minkowski", ""),
        ({"metric": "minkowski", "p": 0.5}, "/params/p", "greater-than-equal", "at least 1"),
        ({"metric": "bhattacharyya", "normalise": "zscore"}, "/params/normalise", "bhattacharyya-zscore", "minmax"),
        (
            {"evaluation": {"method": "bootstrap"}},
            "/params/evaluation/method",
            "union-tag-invalid",
            "'holdout', 'kfold', 'loo'",
        ),
        ({"evaluation": {"train_size": 178}}, "/params/evaluation/train_size", "train-size-too-large", "1 to 177"),
        (
            {"evaluation": {"method": "kfold", "folds": 200}},
            "/params/evaluation/folds",
            "folds-too-many",
            "2 to 178",
        ),
        ({"evaluation": {"method": "loo", "folds": 1}}, "/params/evaluation/folds", "extra-forbidden", "spelling"),
        ({"dataset": {"name": "iris"}}, "/params/dataset/name", "literal-error", "'wine'"),
        ({"dataset": {}}, "/params/dataset/name", "missing", "required"),
        ({"dataset": "wine"}, "/params/dataset", "dataset", '{"name": "wine"}'),
        ({"dataset": {"upload": "../../etc/passwd"}}, "/params/dataset/upload", "upload-not-found", ""),
        ({"dataset": {"upload": "x", "labl": 0}}, "/params/dataset/labl", "extra-forbidden", "spelling"),
        ({"distance": "euclidean"}, "/params/distance", "extra-forbidden", "spelling"),
        ([], "/params", "dict-type", "JSON object"),
    ],
)
def test_invalid_parameters_are_refused(
    client: FlaskClient, params: object, pointer: str, code: str, words: str
) -> None:
    response = submit(client, params)
    assert list_codes(response) == {pointer: code}
    assert words in check_problem(response)[pointer]


@pytest.mark.parametrize(
    ("others", "pointer", "code"),
    [
        ({"kind": "dance"}, "/kind", "enum"),
        ({"device": "tpu"}, "/device", "string-pattern-mismatch"),
        ({"priority": 10}, "/priority", "less-than-equal"),
        ({"kind": []}, "/kind", "enum"),
        ({"labels": {"a": "x\0y"}}, "/labels/a", "string-unstorable"),
        ({"labels": {"a\0": "x"}}, "/labels", "name-unstorable"),
        ({"params": {"dataset": {"upload": "\ud800"}}}, "/params/dataset/upload", "string-unstorable"),
        ({"timeout_s": 0}, "/timeout_s", "greater-than"),
        ({"timeout_s": 1e9}, "/timeout_s", "timeout-too-long"),
        ({"max_attempts": 0}, "/max_attempts", "greater-than-equal"),
        ({"labels": {"a": 1}}, "/labels/a", "string-type"),
        ({"prio": 1}, "/prio", "extra-forbidden"),
    ],
)
def test_invalid_submission_is_refused(client: FlaskClient, others: dict[str, object], pointer: str, code: str) -> None:
    response = client.post("/api/v1/jobs", json={"kind": "knn", "params": {}} | others)
    assert list_codes(response) == {pointer: code}


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"prompts": [""]}, "/params/prompts/0"),
        ({"prompts": ["  "]}, "/params/prompts/0"),
        ({"temperature": 0}, "/params/temperature"),
        ({"temperature": -1}, "/params/temperature"),
        ({"top_p": 0}, "/params/top_p"),
        ({"top_p": 1.5}, "/params/top_p"),
        ({"duration_s": 1, "max_new_tokens": 5}, "/params/max_new_tokens"),
        ({"prompts": ["a"], "audio_prompts": [{"upload": "x"}] * 2}, "/params/audio_prompts"),
        ({"audio_prompts": [{"upload": "x", "start_s": 2, "end_s": 1}]}, "/params/audio_prompts/0/end_s"),
        ({"audio_prompts": [{"upload": "x", "start_s": 1, "end_s": 1}]}, "/params/audio_prompts/0/end_s"),
        ({"audio_prompts": [{"upload": "x", "start_s": -1}]}, "/params/audio_prompts/0/start_s"),
        ({"audio_prompts": [{"upload": "x"}]}, "/params/audio_prompts/0/upload"),
        ({"model": "../../etc"}, "/params/model"),
        ({"model": "someone/private"}, "/params/model"),
    ],
)
def test_invalid_music_parameters_are_refused(client: FlaskClient, params: object, pointer: str) -> None:
    response = client.post("/api/v1/jobs", json={"kind": "musicgen", "params": params})
    assert list(check_problem(response)) == [pointer]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"kind": NaN}', b"[" * 100_000])
def test_body_that_is_not_json_is_refused(client: FlaskClient, body: bytes) -> None:
    response = client.post("/api/v1/jobs", data=body, headers={"Content-Type": "application/json"})
    assert response.status_code in {400, 422}
    check_problem(response, response.status_code)


@pytest.mark.parametrize("body", [[], "text", 5, None])
def test_body_that_is_not_an_object_is_refused(client: FlaskClient, body: object) -> None:
    assert list(check_problem(client.post("/api/v1/jobs", data=json.dumps(body)))) == [""]


def test_bhattacharyya_metric_is_refused_for_a_table_with_negative_values(client: FlaskClient) -> None:
    table = upload(client, b"k,a,b\nx,1,2\ny,-2,3\nx,3,4\n")
    params = {
        "dataset": {"upload": table, "label": "k"},
        "k": 1,
        "metric": "bhattacharyya",
        "evaluation": {"method": "loo"},
    }
    response = submit(client, params)
    assert list_codes(response) == {"/params/metric": "bhattacharyya-negative"}
    assert "negative values occur in 'a'" in check_problem(response)["/params/metric"]


def test_body_that_is_too_large_is_refused(client: FlaskClient, settings: Settings) -> None:
    response = client.post("/api/v1/jobs", data=b" " * (settings.max_body_bytes + 1))
    check_problem(response, 413)


@pytest.mark.parametrize("length", [1, 2**17])
def test_upload_that_is_too_large_is_refused_and_not_stored(settings: Settings, length: int) -> None:
    small = settings.model_copy(update={"max_upload_bytes": 1000})
    app: Flask = create_app(small)
    services: Services = get_context(app).services
    client = app.test_client()
    for response in (
        client.post("/api/v1/uploads", data=b"x" * (1000 + length)),
        client.post("/api/v1/uploads", data={"file": (io.BytesIO(b"x" * (1000 + length)), "a.csv")}),
    ):
        check_problem(response, 413)
    assert list_keys(services.files, "uploads") == []
    services.close()


@pytest.mark.parametrize("multipart", [False, True])
def test_upload_to_a_full_disk_is_refused_and_not_stored(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch, multipart: bool
) -> None:
    fill_disk(services.files, "uploads", monkeypatch)
    data: Any = {"file": (io.BytesIO(GOOD), "a.csv")} if multipart else GOOD
    response = client.post("/api/v1/uploads", data=data)
    check_problem(response, 507)
    assert response.json is not None
    assert (response.json["type"], response.json["title"]) == ("disk-full", "The disk is full")
    assert services.settings.storage in response.json["detail"]
    assert list_keys(services.files, "uploads") == []
    with services.database.reading() as session:
        assert session.scalars(select(Upload)).all() == []
    monkeypatch.undo()
    upload(client, GOOD)


def test_form_page_reports_a_full_disk(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(services.files, "uploads", monkeypatch)
    response = send_form(client, "/knn", file=(io.BytesIO(GOOD), "a.csv"))
    assert (response.status_code, response.mimetype) == (507, "text/html")
    assert "The disk is full" in response.text
    assert list_keys(services.files, "uploads") == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b.csv", "..", "a\x00b", "x" * 300])
def test_invalid_file_name_is_refused(client: FlaskClient, name: str) -> None:
    response = client.post("/api/v1/uploads", data={"file": (io.BytesIO(GOOD), name)})
    assert list(check_problem(response)) == ["/file"]


def test_upload_without_exactly_one_nonempty_file_is_refused(client: FlaskClient) -> None:
    def make(name: str) -> tuple[io.BytesIO, str]:
        return io.BytesIO(GOOD), name

    for data in ({"other": "text"}, {"file": [make("a"), make("b")]}, {"file": make("a"), "more": make("c")}):
        response = client.post("/api/v1/uploads", data=data, content_type="multipart/form-data")
        assert list(check_problem(response)) == ["/file"]
    assert list(check_problem(client.post("/api/v1/uploads", data=b""))) == ["/file"]


def test_upload_is_stored_and_described(client: FlaskClient) -> None:
    multipart = client.post("/api/v1/uploads", data={"file": (io.BytesIO(GOOD), "wine list.csv")})
    raw = client.post("/api/v1/uploads", data=GOOD, headers={"Content-Type": "text/csv"})
    for response, filename in ((multipart, "wine list.csv"), (raw, None)):
        body: Any = response.json
        assert response.status_code == 201
        assert (body["bytes"], body["filename"], body["media_type"]) == (len(GOOD), filename, "text/csv")
        assert len(body["sha256"]) == 64


@pytest.mark.parametrize(
    "url",
    [
        "/api/v1/jobs/a%00b",
        pytest.param(f"/api/v1/jobs/{make_id()}/artifacts/a%00b", id="an artifact's"),
        "/jobs/a%00b",
    ],
)
def test_address_with_a_nul_character_is_not_found(client: FlaskClient, url: str) -> None:
    check_problem(client.get(url), 404)


@pytest.mark.parametrize(("method", "url", "status"), [("put", "/api/v1/jobs", 405), ("get", "/api/v1/nothing", 404)])
def test_unknown_address_or_method_returns_a_problem(client: FlaskClient, method: str, url: str, status: int) -> None:
    check_problem(getattr(client, method)(url), status)


def test_query_with_more_labels_than_a_job_can_have_is_refused(client: FlaskClient) -> None:
    query = "&".join(f"label.l{number}=x" for number in range(33))
    assert list(check_problem(client.get(f"/api/v1/jobs?{query}"))) == ["/label"]


@pytest.mark.parametrize("origin", ["http://[", "null", "http://elsewhere.example"])
def test_request_from_another_origin_is_refused(client: FlaskClient, origin: str) -> None:
    check_problem(client.post("/api/v1/jobs", json={"kind": "knn"}, headers={"Origin": origin}), 403)


def nest(depth: int) -> Any:
    nested: Any = 0
    for _ in range(depth):
        nested = [nested]
    return nested


LARGE: dict[str, Any] = {
    "fields": {"kind": "knn"} | {f"a{number}": 0 for number in range(85_000)},
    "parameters": {"kind": "knn", "params": {f"a{number}": 0 for number in range(85_000)}},
    "labels": {"kind": "knn", "labels": {f"a{number}": "" for number in range(75_000)}},
    "k": {"kind": "knn", "params": {"k": [1] * 340_000}},
    "prompts": {"kind": "musicgen", "params": {"prompts": [""] * 250_000}},
    "clips": {"kind": "musicgen", "params": {"audio_prompts": [{}] * 250_000}},
    "events": {"kind": "knn", "webhook": {"url": "http://x", "events": ["x"] * 200_000}},
    "depth": {"kind": "knn", "params": {"a": nest(900)}},
    "many problems": {"kind": "knn", "params": {f"a{number}": "\0" for number in range(4_900)}},
}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
def test_large_body_with_many_mistakes_is_refused_quickly_with_few_problems(client: FlaskClient, body: Any) -> None:
    content = json.dumps(body, separators=(",", ":"))
    assert len(content) < 2**20
    started_s = time.thread_time()
    response = client.post("/api/v1/jobs", data=content)
    assert time.thread_time() - started_s < 1.0  # ten times the bound, which is 0.1 s
    assert 1 <= len(list_codes(response)) <= 101
    assert len(response.data) < 2**17


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_form_with_very_many_lines_is_refused_with_few_problems(client: FlaskClient) -> None:
    response = send_form(client, "/musicgen", prompts="a\n" * 100_000)
    assert response.status_code == 422
    assert len(response.data) < 2**20
