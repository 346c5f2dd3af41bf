"""The preview of the knn form: the first rows of a table, and the columns that can be the label."""

import io
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.files.keys import upload_key
from shared.services import Services
from tests.support.html_pages import Page, find_message, send_form

TABLE = b"kind,a,a,2020,,<b>\n" + b"x,1,2,3,4,5\ny,2,3,4,5,6\n" * 5


def show_preview(client: FlaskClient, table: bytes, name: str = "my.csv", **fields: Any) -> TestResponse:
    return send_form(client, "/knn", preview="1", file=(io.BytesIO(table), name), **fields)


def list_offered_columns(page: str) -> list[str | None]:
    _, _, rest = page.partition('<datalist id="columns">')
    return [option["value"] for option in Page(rest.partition("</datalist>")[0]).find_all("option")]


def is_empty(client: FlaskClient) -> bool:
    return client.get("/api/v1/jobs").json == {"jobs": [], "next_cursor": None}


def test_preview_keeps_the_file_and_queues_nothing(client: FlaskClient) -> None:
    response = show_preview(client, TABLE, k="3")
    assert response.status_code == 200
    assert "my.csv: first rows of 6 columns" in response.text
    assert response.text.count("<td>x</td>") == 3
    assert '<th scope="col">&lt;b&gt;</th>' in response.text
    assert is_empty(client)
    sent = Page(response.text).find_form("/knn").fields
    assert sent["k"] == "3"
    response = client.post("/knn", data=sent | {"label": "kind", "method": "loo"})
    assert response.status_code == 303, response.text


def test_column_without_an_unambiguous_name_is_offered_by_its_index(client: FlaskClient) -> None:
    page = show_preview(client, TABLE).text
    # A name that occurs twice, is empty, or would be read as an index is replaced by the index.
    assert list_offered_columns(page) == ["kind", "1", "2", "3", "4", "<b>"]
    sent = Page(page).find_form("/knn").fields | {"method": "loo", "task": "regression"}
    for label in list_offered_columns(page)[1:]:
        response = client.post("/knn", data=sent | {"label": label})
        # In this request, the column `kind` is not the label. Its cells are text, but only a label may be text.
        assert "not a finite number" in find_message(response.text, "file")
        assert "label-problem" not in response.text


def test_columns_without_a_header_are_offered_by_their_index(client: FlaskClient) -> None:
    sent = Page(show_preview(client, TABLE).text).find_form("/knn").fields
    del sent["header"]
    page = client.post("/knn", data=sent | {"preview": "1"}).text
    assert list_offered_columns(page) == ["0", "1", "2", "3", "4", "5"]
    assert "<td>kind</td>" in page
    assert '<th scope="col">column 0</th>' in page


def test_second_file_replaces_the_first_file(client: FlaskClient) -> None:
    sent = Page(show_preview(client, TABLE, "first.csv").text).find_form("/knn").fields
    page = client.post("/knn", data=sent | {"preview": "1", "file": (io.BytesIO(b"sort,b\nx,1\n"), "second.csv")}).text
    assert "second.csv: first rows of 2 columns" in page
    assert "second.csv, uploaded" in page
    assert "first.csv" not in page
    assert list_offered_columns(page) == ["sort", "b"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"\n\n", "the file is empty"),
        (b"RIFF\x00\x00", "is binary"),
        (b"kind,a\nS\xe4ure,1\n", "is not UTF-8"),
        (b'"' + b"x" * 200_000, "line 1 is not CSV"),
    ],
)
def test_file_that_is_not_a_table_is_reported_at_the_file_field(client: FlaskClient, table: bytes, words: str) -> None:
    shown = show_preview(client, table)
    assert shown.status_code == 200
    assert words in find_message(shown.text, "file")
    assert list_offered_columns(shown.text) == []
    response = client.post("/knn", data=Page(shown.text).find_form("/knn").fields)
    assert response.status_code == 422
    assert find_message(response.text, "file").count(words) == 1
    assert client.get("/knn").status_code == 200
    assert is_empty(client)


def test_missing_file_of_an_upload_is_reported_at_the_file_field(client: FlaskClient, services: Services) -> None:
    sent = Page(show_preview(client, TABLE).text).find_form("/knn").fields
    services.files.remove(upload_key(sent["upload"]))
    for button, status in (({"preview": "1"}, 200), ({}, 422)):
        response = client.post("/knn", data=sent | button)
        assert response.status_code == status
        assert find_message(response.text, "file") == "the file of this upload no longer exists; upload it again"


def test_preview_without_a_file_shows_the_wine_data_set(client: FlaskClient) -> None:
    page = send_form(client, "/knn", preview="1").text
    assert "Wine data set: first rows of 14 columns" in page
    assert '<th scope="col">Proline</th>' in page
    assert "datalist" not in page
    assert is_empty(client)
