"""The pages as a browser without JavaScript uses them."""

import io
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.jobs import Kind
from shared.services import Services
from tests.support.html_pages import Page, find_message, send_form
from tests.support.job_outcomes import succeed


def submit(client: FlaskClient, **fields: Any) -> str:
    response = send_form(client, "/knn", **fields)
    assert response.status_code == 303, response.text
    return response.headers["Location"]


def test_home_page_links_to_every_form(client: FlaskClient) -> None:
    page = client.get("/").text
    for kind in Kind:
        assert f'href="/{kind}">' in page
        assert f'method="post" action="/{kind}"' in client.get(f"/{kind}").text
    assert "No jobs yet." in page


def test_unchanged_form_submits_the_default_parameters(client: FlaskClient) -> None:
    job = client.get(f"/api/v1{submit(client)}").json
    plain = client.post("/api/v1/jobs", json={"kind": "knn"}).json
    assert job is not None
    assert plain is not None
    assert job["params"] == plain["params"]


def test_form_queues_a_job_with_the_values_of_the_fields(client: FlaskClient) -> None:
    url = submit(client, k="1, 3,5", metric="minkowski", p="3", method="kfold", folds="5", normalise="zscore")
    job = client.get(f"/api/v1{url}").json
    assert job is not None
    assert job["params"] == {
        "dataset": {"name": "wine"},
        "task": "classification",
        "k": [1, 3, 5],
        "metric": "minkowski",
        "p": 3.0,
        "weights": "uniform",
        "normalise": "zscore",
        "ties": "shuffled",
        "evaluation": {"method": "kfold", "folds": 5, "repeats": 1, "seed": 0, "stratify": "auto"},
    }
    assert job["id"] in client.get("/").text
    assert job["id"] in client.get("/jobs?state=queued").text


def test_form_uploads_a_file(client: FlaskClient) -> None:
    table = b"kind,a\n" + b"x,1\ny,2\n" * 5
    url = submit(client, file=(io.BytesIO(table), "my.csv"), label="kind", header="true", method="loo", k="1")
    job = client.get(f"/api/v1{url}").json
    assert job is not None
    assert job["params"]["dataset"] | {"label": "kind", "header": True} == job["params"]["dataset"]


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"k": "500"}, "k", "choose 1 to 128"),
        ({"k": "five"}, "k", "must be a whole number"),
        ({"train_size": "178"}, "train_size", "1 to 177"),
        ({"method": "kfold", "folds": "1"}, "folds", "must be at least 2"),
        ({"file": b"k,a\nx,1\ny,1,2\n", "header": "true"}, "file", "line 3"),
        ({"file": b"k,a\nx,1\ny,2\n", "label": "c", "header": "true"}, "label", "no column 'c'"),
    ],
)
def test_invalid_form_is_shown_again_with_the_message_at_the_field(
    client: FlaskClient, fields: dict[str, Any], field: str, words: str
) -> None:
    sent: dict[str, Any] = {
        name: (io.BytesIO(value), "a.csv") if isinstance(value, bytes) else value for name, value in fields.items()
    }
    response = send_form(client, "/knn", **({"seed": "77"} | sent))
    assert response.status_code == 422
    assert words in find_message(response.text, field)
    assert Page(response.text).find_form("/knn").fields["seed"] == "77"
    assert client.get("/api/v1/jobs").json == {"jobs": [], "next_cursor": None}


def test_job_can_be_cancelled_and_run_again_on_its_page(client: FlaskClient, services: Services) -> None:
    url = submit(client)
    page = client.get(url).text
    assert "queued" in page
    assert 'http-equiv="refresh"' in page
    assert send_form(client, url, f"{url}/cancel").headers["Location"] == url
    page = client.get(url).text
    assert "A client cancelled this job." in page
    assert 'http-equiv="refresh"' not in page
    again = send_form(client, url, f"{url}/retry").headers["Location"]
    assert again != url
    score = {"k": 5, "accuracy": 0.7, "accuracy_std": None, "macro_f1": 0.69}
    result = {"scores": [score], "best_k": 5, "n_train": 128, "n_test": 50, "device": "cpu", "compute_s": 0.01}
    succeed(services, again.rpartition("/")[2], result, {})
    page = client.get(again).text
    assert "<td>0.7</td>" in page
    assert "128 training rows, 50 predicted rows" in page


def test_uploaded_file_is_kept_when_the_form_is_refused(client: FlaskClient) -> None:
    table = (io.BytesIO(b"kind,a\n" + b"x,1\ny,2\n" * 5), "my.csv")
    sent = {"label": "kind", "header": "true", "method": "loo"}
    page = send_form(client, "/knn", **sent, file=table, k="500").text
    upload_id = Page(page).find_form("/knn").fields["upload"]
    assert ">my.csv, uploaded (" in page
    url = submit(client, **sent, upload=upload_id, k="1")
    job = client.get(f"/api/v1{url}").json
    assert job is not None
    assert job["params"]["dataset"]["upload"] == upload_id


@pytest.mark.parametrize("url", ["/nothing", "/jobs/nonsense"])
def test_response_to_an_unknown_address_links_to_the_jobs(client: FlaskClient, url: str) -> None:
    response = client.get(url, headers={"Accept": "text/html"})
    assert response.status_code == 404
    assert 'href="/jobs"' in response.text
