"""The knn form's first rows of a table, and the columns that it offers."""

import io
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.files.keys import upload_key
from shared.services import Services
from tests.support.html_pages import Page, find_message, send_form

TABLE = b"kind,a,a,2020,,<b>\n" + b"x,1,2,3,4,5\ny,2,3,4,5,6\n" * 5


def look(client: FlaskClient, table: bytes, name: str = "my.csv", **fields: Any) -> TestResponse:
    return send_form(client, "/knn", look="1", file=(io.BytesIO(table), name), **fields)


def list_offers(page: str) -> list[str | None]:
    _, _, rest = page.partition('<datalist id="columns">')
    return [option["value"] for option in Page(rest.partition("</datalist>")[0]).find_all("option")]


def is_empty(client: FlaskClient) -> bool:
    return client.get("/api/v1/jobs").json == {"jobs": [], "next_cursor": None}


def test_looking_keeps_the_file_and_queues_nothing(client: FlaskClient) -> None:
    answer = look(client, TABLE, k="3")
    assert answer.status_code == 200
    assert "my.csv, first rows of 6 columns" in answer.text
    assert answer.text.count("<td>x</td>") == 3
    assert '<th scope="col">&lt;b&gt;</th>' in answer.text
    assert is_empty(client)
    sent = Page(answer.text).find_form("/knn").fields
    assert sent["k"] == "3"
    answer = client.post("/knn", data=sent | {"label": "kind", "method": "loo"})
    assert answer.status_code == 303, answer.text


def test_columns_are_offered_by_what_names_them_alone(client: FlaskClient) -> None:
    page = look(client, TABLE).text
    # A name that is there twice, that is none, or that would be read as an index, says less than the index.
    assert list_offers(page) == ["kind", "1", "2", "3", "4", "<b>"]
    sent = Page(page).find_form("/knn").fields | {"method": "loo", "task": "regression"}
    for label in list_offers(page)[1:]:
        answer = client.post("/knn", data=sent | {"label": label})
        assert "not a finite number" in find_message(answer.text, "file")  # the column of kinds, and not the label
        assert "label-problem" not in answer.text


def test_without_a_header_columns_are_offered_by_their_index(client: FlaskClient) -> None:
    sent = Page(look(client, TABLE).text).find_form("/knn").fields
    del sent["header"]
    page = client.post("/knn", data=sent | {"look": "1"}).text
    assert list_offers(page) == ["0", "1", "2", "3", "4", "5"]
    assert "<td>kind</td>" in page
    assert '<th scope="col">column 0</th>' in page


def test_of_several_files_the_last_is_shown_and_kept(client: FlaskClient) -> None:
    sent = Page(look(client, TABLE, "first.csv").text).find_form("/knn").fields
    page = client.post("/knn", data=sent | {"look": "1", "file": (io.BytesIO(b"sort,b\nx,1\n"), "second.csv")}).text
    assert "second.csv, first rows of 2 columns" in page
    assert "second.csv, already here" in page
    assert "first.csv" not in page
    assert list_offers(page) == ["sort", "b"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"\n\n", "the file is empty"),
        (b"RIFF\x00\x00", "is binary"),
        (b"kind,a\nS\xe4ure,1\n", "is not UTF-8"),
        (b'"' + b"x" * 200_000, "line 1 is not CSV"),
    ],
)
def test_what_is_wrong_with_a_file_stands_at_it(client: FlaskClient, table: bytes, words: str) -> None:
    looked = look(client, table)
    assert looked.status_code == 200
    assert words in find_message(looked.text, "file")
    assert list_offers(looked.text) == []
    answer = client.post("/knn", data=Page(looked.text).find_form("/knn").fields)
    assert answer.status_code == 422
    assert find_message(answer.text, "file").count(words) == 1
    assert client.get("/knn").status_code == 200
    assert is_empty(client)


def test_a_file_that_is_gone_is_missed(client: FlaskClient, services: Services) -> None:
    sent = Page(look(client, TABLE).text).find_form("/knn").fields
    services.files.remove(upload_key(sent["upload"]))
    for button, status in (({"look": "1"}, 200), ({}, 422)):
        answer = client.post("/knn", data=sent | button)
        assert answer.status_code == status
        assert find_message(answer.text, "file") == "the file of this upload no longer exists; upload it again"


def test_looking_without_a_file_shows_the_wine_data(client: FlaskClient) -> None:
    page = send_form(client, "/knn", look="1").text
    assert "The Wine data, first rows of 14 columns" in page
    assert '<th scope="col">Proline</th>' in page
    assert "datalist" not in page
    assert is_empty(client)
