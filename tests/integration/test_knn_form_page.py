"""The table on the knn form: what was detected, the columns to choose, and the column to predict."""

import io
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.files.keys import upload_key
from shared.services import Services
from tests.support.html_pages import Page, find_message, send_form

TABLE = b"kind,a,a,2020,,<b>\n" + b"".join(
    b"%s,%d,2,3,%d,%d\n" % (b"xy"[i % 2 :][:1], 3 * i % 7, i, 5 + i * i % 4) for i in range(10)
)


def show_table(client: FlaskClient, table: bytes, name: str = "my.csv", **fields: Any) -> TestResponse:
    return send_form(client, "/knn", preview="1", file=(io.BytesIO(table), name), **fields)


def read_fields(page: TestResponse) -> dict[str, Any]:
    return Page(page.text).find_form("/knn").fields


def read_dataset(client: FlaskClient, response: TestResponse) -> dict[str, Any]:
    """Return the data set of the job that a form has queued."""
    assert response.status_code == 303, response.text
    job_id = response.headers["Location"].rpartition("/")[2]
    job: dict[str, Any] = client.get(f"/api/v1/jobs/{job_id}").json or {}
    dataset: dict[str, Any] = job["params"]["dataset"]
    return dataset


def is_empty(client: FlaskClient) -> bool:
    return client.get("/api/v1/jobs").json == {"jobs": [], "next_cursor": None}


def test_table_is_shown_and_nothing_is_queued(client: FlaskClient) -> None:
    response = show_table(client, TABLE, k="3")
    assert response.status_code == 200
    assert "my.csv: first rows of 6 columns" in response.text
    assert '<th scope="col">&lt;b&gt;</th>' in response.text
    assert "<dt>Delimiter</dt><dd>comma</dd>" in response.text
    assert "<dt>Rows</dt><dd>10</dd>" in response.text
    assert 'aria-label="&lt;b&gt; against a"' in response.text  # a scatter plot
    assert is_empty(client)
    sent = read_fields(response)
    assert (sent["k"], sent["label"], sent["normalise"]) == ("3", "0", "zscore")
    dataset = read_dataset(client, client.post("/knn", data=sent | {"method": "loo"}))
    assert (dataset["label"], dataset["header"], dataset["delimiter"]) == ("kind", True, ",")


def test_what_columns_become_is_shown(client: FlaskClient) -> None:
    rows = "".join(f"{'pqr'[n % 3]},w{n},{n % 5 or 'NA'},2024-01-0{n % 9 + 1},{'xy'[n % 2]}\n" for n in range(40))
    table = f"colour,word,size,day,kind\n{rows}".encode()
    page = show_table(client, table).text
    for plan in (
        "3 columns of 0 and 1",
        "left out: more than 30 values",
        "number; gaps: the median",
        "days since 1970",
    ):
        assert f'<td class="small">{plan}</td>' in page
    page = show_table(client, table, text_columns="ordinal", missing="drop_rows").text
    for plan in ("number by alphabetical order", "number; rows with gaps are left out", "label"):
        assert f'<td class="small">{plan}</td>' in page


def test_columns_that_are_not_chosen_are_left_out(client: FlaskClient) -> None:
    sent = read_fields(show_table(client, TABLE))
    assert sent["use"] == ["0", "1", "5"]  # column 4 numbers the rows, and two are constant
    response = client.post("/knn", data=sent | {"use": ["1", "4", "5"], "label": "0", "method": "loo"})
    # A column whose name is not unique, or empty, is named by its index.
    assert read_dataset(client, response)["exclude"] == [2, "2020"]
    response = client.post("/knn", data=sent | {"use": ["2", "4"], "label": "3", "method": "loo", "task": "regression"})
    dataset = read_dataset(client, response)
    assert (dataset["label"], dataset["exclude"]) == ("2020", ["kind", 1, "<b>"])


def test_file_that_is_read_in_another_way_is_shown_anew(client: FlaskClient) -> None:
    sent = read_fields(show_table(client, TABLE))
    page = client.post("/knn", data=sent | {"header": "false", "preview": "1", "use": ["5"]})
    assert "<td>kind</td>" in page.text
    assert '<th scope="col">column 0</th>' in page.text
    assert "none in the file" in page.text
    assert read_fields(page)["use"] == [str(index) for index in range(6)]
    refused = client.post("/knn", data=sent | {"delimiter": ";", "preview": "1"})
    assert refused.status_code == 200
    assert find_message(refused.text, "file")


def test_second_file_replaces_the_first_file(client: FlaskClient) -> None:
    sent = read_fields(show_table(client, TABLE, "first.csv"))
    second = (io.BytesIO(b"b,sort\n4,x\n9,y\n4,x\n9,y\n"), "second.csv")
    page = client.post("/knn", data=sent | {"preview": "1", "file": second}).text
    assert "second.csv: first rows of 2 columns" in page
    assert "second.csv, uploaded" in page
    assert "first.csv" not in page
    fields = Page(page).find_form("/knn").fields
    assert (fields["use"], fields["label"]) == (["0", "1"], "1")


def test_form_whose_columns_were_chosen_from_another_table_is_shown_again(client: FlaskClient) -> None:
    sent = read_fields(show_table(client, TABLE)) | {"method": "loo", "normalise": "minmax"}
    second = (io.BytesIO(b"b,sort\n4,x\n9,y\n4,x\n9,y\n"), "second.csv")
    for change in ({"header": "false"}, {"file": second}):
        shown = client.post("/knn", data=sent | change)
        assert (shown.status_code, "first rows of" in shown.text) == (200, True)
        assert read_fields(shown)["normalise"] == "minmax"
    assert is_empty(client)


def test_wide_table_has_a_form_that_can_be_sent(client: FlaskClient) -> None:
    columns = 300
    rows = [
        ",".join(["xy"[row % 2], *(str(row * column % 7) for column in range(columns - 2)), str(row)])
        for row in range(9)
    ]
    table = ",".join(["kind", *(f"c{column}" for column in range(columns - 1))]) + "\n" + "\n".join(rows)
    shown = show_table(client, table.encode())
    assert "100 more columns are not shown; " in shown.text
    sent = read_fields(shown)
    sent["use"].remove("2")
    dataset = read_dataset(client, client.post("/knn", data=sent | {"method": "loo", "k": "1"}))
    assert dataset["exclude"][:2] == ["c0", "c1"]  # the first one is constant
    assert dataset["exclude"][-1] == f"c{columns - 2}"  # it numbers the rows


@pytest.mark.parametrize("change", [{"header": "maybe"}, {"encoding": "?"}, {"text_columns": "all"}], ids=str)
def test_value_that_the_form_does_not_offer_is_a_problem_of_its_field(
    client: FlaskClient, change: dict[str, str]
) -> None:
    sent = read_fields(show_table(client, TABLE))
    (field,) = change
    shown = client.post("/knn", data=sent | change | {"shown": ""})
    assert shown.status_code == 422
    assert find_message(shown.text, field)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"\n\n", "The file is empty"),
        (b"RIFF\x00\x00", "not a table"),
        (b'a,b\n1,"2\n', "opens a quote"),
    ],
)
def test_file_that_is_not_a_table_is_reported_at_the_file_field(client: FlaskClient, table: bytes, words: str) -> None:
    shown = show_table(client, table)
    assert shown.status_code == 200
    assert words in find_message(shown.text, "file")
    assert "first rows" not in shown.text
    response = client.post("/knn", data=read_fields(shown))
    assert response.status_code == 422
    assert find_message(response.text, "file").count(words) == 1
    assert client.get("/knn").status_code == 200
    assert is_empty(client)


def test_missing_file_of_an_upload_is_reported_at_the_file_field(client: FlaskClient, services: Services) -> None:
    sent = read_fields(show_table(client, TABLE))
    services.files.remove(upload_key(sent["upload"]))
    response = client.post("/knn", data=sent | {"header": "false", "preview": "1"})
    assert response.status_code == 200
    assert find_message(response.text, "file") == "the file of this upload no longer exists; upload it again"


def test_without_a_file_the_wine_data_set_is_shown(client: FlaskClient) -> None:
    page = send_form(client, "/knn", preview="1").text
    assert "Wine data set: first rows of 14 columns" in page
    assert '<th scope="row" class="break">Proline</th>' in page
    assert 'id="label"' not in page
    assert is_empty(client)
