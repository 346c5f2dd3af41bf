"""Bad input: a clear problem that names the field and the remedy; nothing is queued, nothing is kept."""

import io
import json
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
from tests.support.disks import fill_disk, list_keys
from tests.support.html_pages import send_form
from web import create_app
from web.context import get_context

GOOD = b"kind,a,b\nx,1,2\ny,2,3\nx,3,4\ny,4,5\n"


def upload(client: FlaskClient, content: bytes, **headers: str) -> str:
    answer = client.post("/api/v1/uploads", data=content, headers={"Content-Type": "text/csv"} | headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json["id"])  # type: ignore[index]  # it is an object


def problems(answer: TestResponse, status: int = 422) -> dict[str, str]:
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json"), answer.text
    body: Any = answer.json
    assert body["status"] == status
    assert body["type"]
    assert body["title"]
    assert body["detail"]
    return {problem["pointer"]: problem["detail"] for problem in body.get("errors", [])}


def submit(client: FlaskClient, params: object, **others: object) -> TestResponse:
    return client.post("/api/v1/jobs", json={"kind": "knn", "params": params} | others)


@pytest.fixture(autouse=True)
def nothing_is_queued(client: FlaskClient) -> Any:
    yield
    assert client.get("/api/v1/jobs").json == {"jobs": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("content", "dataset", "pointer", "words"),
    [
        (b"\n\n", {}, "upload", "empty"),
        (b"a,b\n", {}, "upload", "no rows"),
        (b"a\n1\n2\n", {}, "upload", "one column"),
        (b"k,a\nx,1\ny,2,3\n", {}, "upload", "line 3 has 3 cells"),
        (b"k,a\nx,1\ny,two\n", {}, "upload", "line 3, column 'a': 'two' is not a finite number"),
        (b"k,a\nx,1\ny,nan\n", {}, "upload", "line 3, column 'a': 'nan'"),
        (b"k,a\nx,1\ny,inf\n", {}, "upload", "'inf'"),
        (b"k,a\nx,1\ny,\n", {}, "upload", "'' is not a finite number"),
        (b"k,a\nx,1\nx,2\n", {}, "label", "two classes"),
        (b"k,a\nx,1\n,2\n", {}, "label", "line 3 has no label"),
        ("k,ä\nx,1\ny,2\n".encode("latin-1"), {}, "upload", "not UTF-8"),
        (b"k,a\nx,\x00\ny,2\n", {}, "upload", "binary"),
        (GOOD, {"label": "colour"}, "label", "no column 'colour'; the columns are 'kind', 'a', 'b'"),
        (GOOD, {"label": 3}, "label", "0 to 2"),
        (GOOD, {"label": "kind", "header": False}, "label", "no header"),
        (b"k,a,a\nx,1,2\ny,2,3\n", {"label": "a"}, "label", "2 columns are called 'a'"),
        (b"k,a\n" + b"x,1\n" * 30, {}, "upload", "more than 20 rows"),
        (b"k" + b",a" * 12 + b"\n", {}, "upload", "13 columns, more than 10"),
    ],
)
def test_a_table_that_cannot_be_used(
    settings: Settings, content: bytes, dataset: dict[str, object], pointer: str, words: str
) -> None:
    small = settings.model_copy(update={"max_dataset_rows": 20, "max_dataset_columns": 10})
    app = create_app(small)
    client = app.test_client()
    answer = submit(client, {"dataset": {"upload": upload(client, content)} | dataset, "k": 1})
    found = problems(answer)
    assert list(found) == [f"/params/dataset/{pointer}"]
    assert words in found[f"/params/dataset/{pointer}"]
    get_context(app).services.close()


@pytest.mark.parametrize(
    ("params", "pointer", "words"),
    [
        ({"k": 129}, "/params/k", "128 rows of the training part; give 1 to 128"),
        ({"k": [1, 178], "evaluation": {"method": "loo"}}, "/params/k", "177 rows"),
        ({"k": 0}, "/params/k", "greater than or equal to 1"),
        ({"k": "5"}, "/params/k", "valid integer"),
        ({"k": [1, 2.5]}, "/params/k/1", "valid integer"),
        ({"k": []}, "/params/k", "at least 1"),
        ({"metric": "cosine"}, "/params/metric", "'euclidean'"),
        ({"p": 3}, "/params/p", "minkowski"),
        ({"metric": "minkowski", "p": 0.5}, "/params/p", "greater than or equal to 1"),
        ({"metric": "bhattacharyya", "normalise": "zscore"}, "/params/normalise", "minmax"),
        ({"evaluation": {"method": "bootstrap"}}, "/params/evaluation/method", "'holdout', 'kfold', 'loo'"),
        ({"evaluation": {"train_size": 178}}, "/params/evaluation/train_size", "1 to 177"),
        ({"evaluation": {"method": "kfold", "folds": 200}}, "/params/evaluation/folds", "2 to 178"),
        ({"evaluation": {"method": "loo", "seed": 1}}, "/params/evaluation/seed", "not a field"),
        ({"dataset": {"name": "iris"}}, "/params/dataset/name", "'wine'"),
        ({"dataset": {}}, "/params/dataset/name", "missing"),
        ({"dataset": "wine"}, "/params/dataset", '{"name": "wine"}'),
        ({"dataset": {"upload": "../../etc/passwd"}}, "/params/dataset/upload", "no upload"),
        ({"dataset": {"upload": "x", "labl": 0}}, "/params/dataset/labl", "not a field"),
        ({"distance": "euclidean"}, "/params/distance", "not a field"),
        ([], "/params", "JSON object"),
    ],
)
def test_parameters_that_make_no_sense(client: FlaskClient, params: object, pointer: str, words: str) -> None:
    found = problems(submit(client, params))
    assert list(found) == [pointer]
    assert words in found[pointer]


@pytest.mark.parametrize(
    ("others", "pointer"),
    [
        ({"kind": "dance"}, "/kind"),
        ({"device": "tpu"}, "/device"),
        ({"priority": 10}, "/priority"),
        ({"kind": []}, "/kind"),
        ({"labels": {"a": "x\0y"}}, "/labels/a"),
        ({"params": {"dataset": {"upload": "\ud800"}}}, "/params/dataset/upload"),
        ({"timeout_s": 0}, "/timeout_s"),
        ({"timeout_s": 1e9}, "/timeout_s"),
        ({"max_attempts": 0}, "/max_attempts"),
        ({"labels": {"a": 1}}, "/labels/a"),
        ({"prio": 1}, "/prio"),
    ],
)
def test_an_envelope_that_makes_no_sense(client: FlaskClient, others: dict[str, object], pointer: str) -> None:
    answer = client.post("/api/v1/jobs", json={"kind": "knn", "params": {}} | others)
    assert list(problems(answer)) == [pointer]


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
    ],
)
def test_music_that_cannot_be_made(client: FlaskClient, params: object, pointer: str) -> None:
    answer = client.post("/api/v1/jobs", json={"kind": "musicgen", "params": params})
    assert list(problems(answer)) == [pointer]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"kind": NaN}', b"[" * 100_000])
def test_a_body_that_is_not_json(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/api/v1/jobs", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    problems(answer, answer.status_code)


@pytest.mark.parametrize("body", [[], "text", 5, None])
def test_a_body_that_is_not_an_object(client: FlaskClient, body: object) -> None:
    assert list(problems(client.post("/api/v1/jobs", data=json.dumps(body)))) == [""]


def test_negative_values_are_no_distribution(client: FlaskClient) -> None:
    table = upload(client, b"k,a,b\nx,1,2\ny,-2,3\nx,3,4\n")
    params = {"dataset": {"upload": table}, "k": 1, "metric": "bhattacharyya", "evaluation": {"method": "loo"}}
    found = problems(submit(client, params))
    assert "row 1 has a negative 'a'" in found["/params/metric"]


def test_a_body_that_is_too_large(client: FlaskClient, settings: Settings) -> None:
    answer = client.post("/api/v1/jobs", data=b" " * (settings.max_body_bytes + 1))
    problems(answer, 413)


@pytest.mark.parametrize("length", [1, 2**17])
def test_an_upload_that_is_too_large_leaves_nothing(settings: Settings, length: int) -> None:
    small = settings.model_copy(update={"max_upload_bytes": 1000})
    app: Flask = create_app(small)
    services: Services = get_context(app).services
    client = app.test_client()
    for answer in (
        client.post("/api/v1/uploads", data=b"x" * (1000 + length)),
        client.post("/api/v1/uploads", data={"file": (io.BytesIO(b"x" * (1000 + length)), "a.csv")}),
    ):
        problems(answer, 413)
    assert list_keys(services.files, "uploads") == []
    services.close()


@pytest.mark.parametrize("multipart", [False, True])
def test_an_upload_for_which_there_is_no_room_leaves_nothing(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch, multipart: bool
) -> None:
    fill_disk(services.files, "uploads", monkeypatch)
    data: Any = {"file": (io.BytesIO(GOOD), "a.csv")} if multipart else GOOD
    answer = client.post("/api/v1/uploads", data=data)
    problems(answer, 507)
    assert answer.json is not None
    assert (answer.json["type"], answer.json["title"]) == ("disk-full", "The disk is full")
    assert services.settings.storage in answer.json["detail"]
    assert list_keys(services.files, "uploads") == []
    with services.database.reading() as session:
        assert session.scalars(select(Upload)).all() == []
    monkeypatch.undo()
    upload(client, GOOD)


def test_a_page_says_that_the_disk_is_full(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(services.files, "uploads", monkeypatch)
    answer = send_form(client, "/knn", file=(io.BytesIO(GOOD), "a.csv"))
    assert (answer.status_code, answer.mimetype) == (507, "text/html")
    assert "The disk is full" in answer.text
    assert list_keys(services.files, "uploads") == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b.csv", "..", "a\x00b", "x" * 300])
def test_a_file_name_that_is_a_path(client: FlaskClient, name: str) -> None:
    answer = client.post("/api/v1/uploads", data={"file": (io.BytesIO(GOOD), name)})
    assert list(problems(answer)) == ["/file"]


def test_no_file_or_two_or_an_empty_one(client: FlaskClient) -> None:
    def make(name: str) -> tuple[io.BytesIO, str]:
        return io.BytesIO(GOOD), name

    for data in ({"other": "text"}, {"file": [make("a"), make("b")]}, {"file": make("a"), "more": make("c")}):
        answer = client.post("/api/v1/uploads", data=data, content_type="multipart/form-data")
        assert list(problems(answer)) == ["/file"]
    assert list(problems(client.post("/api/v1/uploads", data=b""))) == ["/file"]


def test_an_upload_is_stored_and_described(client: FlaskClient) -> None:
    whole = client.post("/api/v1/uploads", data={"file": (io.BytesIO(GOOD), "wine list.csv")})
    raw = client.post("/api/v1/uploads", data=GOOD, headers={"Content-Type": "text/csv"})
    for answer, filename in ((whole, "wine list.csv"), (raw, None)):
        body: Any = answer.json
        assert answer.status_code == 201
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
def test_addresses_with_a_nul(client: FlaskClient, url: str) -> None:
    problems(client.get(url), 404)


@pytest.mark.parametrize(("method", "url", "status"), [("put", "/api/v1/jobs", 405), ("get", "/api/v1/nothing", 404)])
def test_addresses_that_are_not_there(client: FlaskClient, method: str, url: str, status: int) -> None:
    problems(getattr(client, method)(url), status)


def test_more_labels_than_a_job_has_are_refused(client: FlaskClient) -> None:
    query = "&".join(f"label.l{number}=x" for number in range(33))
    assert list(problems(client.get(f"/api/v1/jobs?{query}"))) == ["/label"]


@pytest.mark.parametrize("origin", ["http://[", "null", "http://elsewhere.example"])
def test_an_origin_that_is_not_ours_is_refused_whatever_it_is(client: FlaskClient, origin: str) -> None:
    problems(client.post("/api/v1/jobs", json={"kind": "knn"}, headers={"Origin": origin}), 403)
