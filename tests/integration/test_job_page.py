"""The page of a job in each state, and the result of a knn job."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from shared.database import transitions
from shared.database.tables import Job, Worker
from shared.jobs import CANCELLED, DeviceClass, Kind, Need, Outcome, Progress, State, build_error
from shared.retry_delay import RetryDelay
from shared.services import Services
from shared.submission.submit import submit_job
from tests.support.html_pages import Page, send_form
from tests.support.job_outcomes import register_worker, start_job, succeed
from web.kinds.knn.result import MAX_ROWS

COUNTS = {"best_k": 5, "n_train": 2, "n_test": 3, "device": "cpu", "compute_s": 0.01}
CLASSIFIED = COUNTS | {
    "scores": [{"k": 5, "accuracy": 2 / 3, "accuracy_std": None, "macro_f1": 0.5}],
    "classes": ["<a>", "b"],
    "confusion": [[1, 1], [0, 1]],
}
MEASURED = COUNTS | {"scores": [{"k": 5, "rmse": 0.123456, "mae": 0.1, "r2": None}]}
TABLE = b"index,label,prediction,neighbours,distances\n7,b,b,1 2,0 1\n8,<a>,b,1 2,0.5 0.5\n9,<a>,<a>,1 2,0 1\n"


def submit(services: Services, **body: Any) -> str:
    return submit_job(services, {"kind": "knn", **body})[0].id


def read(client: FlaskClient, job_id: str) -> str:
    response = client.get(f"/jobs/{job_id}")
    assert response.status_code == 200
    return response.text


def test_classification_shows_the_wrong_predictions_first(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    succeed(services, job_id, CLASSIFIED, {"predictions.csv": ("text/csv", TABLE)})
    page = read(client, job_id)
    assert "Accuracy <strong>66.7 %</strong> with k = 5." in page
    assert " Wrong predictions: 1 of 3, listed first." in page
    assert page.count('<tr class="table-danger">') == page.count("<td>wrong</td>") == 1
    assert "<td>&lt;a&gt;</td><td>b</td><td>wrong</td>" in page
    assert re.findall(r'class="fw-normal">(\d)</th>', page) == ["8", "7", "9"]
    assert "<a>" not in page
    assert '<th scope="row">&lt;a&gt;</th>' in page
    assert page.count('<td class="right">1</td>') == 2
    assert page.count('<td class="wrong">1</td>') == 1
    assert f"/api/v1/jobs/{job_id}/artifacts/predictions.csv?download=1" in page


def test_predictions_are_shown_without_the_marks_of_formulas(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    table = b"index,label,prediction,neighbours,distances\n7,'=1+1,'=1+1,1 2,0 1\n8,-1,''=x,1 2,0 1\n"
    succeed(services, job_id, CLASSIFIED, {"predictions.csv": ("text/csv", table)})
    page = read(client, job_id)
    assert "<td>=1+1</td><td>=1+1</td><td></td>" in page
    assert "<td>-1</td><td>&#39;=x</td><td>wrong</td>" in page


def test_regression_shows_the_size_of_the_error_but_no_wrong_predictions(
    client: FlaskClient, services: Services
) -> None:
    job_id = submit(services, params={"task": "regression"})
    succeed(services, job_id, MEASURED, {"predictions.csv": ("text/csv", TABLE.replace(b"<a>", b"1.5"))})
    page = read(client, job_id)
    assert "Root mean square error <strong>0.1235</strong> with k = 5." in page
    for name in ("rmse", "mae", "r2"):
        assert f'<th scope="col">{name}</th>' in page
    assert "<td>0.1</td><td>\N{EN DASH}</td>" in page
    assert "<td>1.5</td><td>b</td><td></td>" in page
    for absent in ("Confusion", "Wrong predictions", "table-danger"):
        assert absent not in page


@pytest.mark.parametrize(
    ("more", "words"), [(0, "<p>Neighbours and distances are in"), (1, "The first 500 rows. All rows, with")]
)
def test_page_shows_only_the_first_predictions(client: FlaskClient, services: Services, more: int, words: str) -> None:
    rows = b"index,label,prediction\n" + b"0,a,b\n" * (MAX_ROWS + more)
    job_id = submit(services)
    succeed(services, job_id, CLASSIFIED, {"predictions.csv": ("text/csv", rows)})
    page = read(client, job_id)
    assert words in page
    assert page.count("<td>wrong</td>") == MAX_ROWS == 500


def test_result_whose_file_is_missing_is_shown_without_predictions(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    succeed(services, job_id, CLASSIFIED, {"predictions.csv": ("text/csv", TABLE)})
    assert "<h2>Predictions</h2>" in read(client, job_id)
    (file,) = services.settings.home.rglob("predictions.csv")
    file.unlink()
    page = read(client, job_id)
    assert "Accuracy" in page
    assert "<h2>Predictions</h2>" not in page


def prepare_column(name: str, use: str, **more: Any) -> dict[str, Any]:
    nothing = {"index": 0, "missing": 0, "imputed": None, "scaled": False, "values": None, "reason": None}
    return {"column": name, "type": "text", "use": use} | nothing | more


def test_what_was_done_to_an_uploaded_table_is_shown(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    detected = {"header": True, "delimiter": "\t", "decimal": ",", "encoding": "cp1252", "sheet": None}
    columns = [
        prepare_column("<kind>", "label", missing=2),
        prepare_column("age", "number", missing=3, imputed="median", scaled=True),
        prepare_column("sex", "onehot", missing=1, imputed="most_frequent", values=2),
        prepare_column("id", "left-out", reason={"code": "row-numbers", "values": {"column": "id"}}),
    ]
    preparation = {
        "rows": 9,
        "used_rows": 6,
        "dropped_without_label": 2,
        "dropped_with_gaps": 1,
        "detected": detected,
        "columns": columns,
    }
    warnings = [{"code": "rows-without-label", "values": {"count": 2}}]
    succeed(services, job_id, CLASSIFIED | {"preparation": preparation, "warnings": warnings}, {})
    page = read(client, job_id)
    assert "2 rows have no label and were left out." in page
    assert "6 of 9 rows were used; 2 have no label; 1 have missing cells" in page
    assert "Delimiter <code>tab</code>" in page
    assert '<th scope="row" class="fw-normal">&lt;kind&gt;</th><td>text</td><td>label</td><td>2</td>' in page
    assert "<td>number, scaled</td><td>3, replaced by the median</td>" in page
    assert "<td>one-hot, 2 values</td><td>1, replaced by the most frequent value</td>" in page
    assert "<td>&#39;id&#39; is left out: it only numbers the rows." in page
    result = client.get(f"/api/v1/jobs/{job_id}").json
    assert result is not None
    assert result["result"]["preparation"]["columns"][3]["reason"]["code"] == "row-numbers"
    assert result["result"]["warnings"] == [
        {"code": "rows-without-label", "detail": "2 rows have no label and were left out."}
    ]


def test_a_result_of_an_earlier_version_has_no_preparation(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    succeed(services, job_id, CLASSIFIED, {})
    assert "<h2>Data</h2>" not in read(client, job_id)
    result = client.get(f"/api/v1/jobs/{job_id}").json
    assert result is not None
    assert (result["result"]["preparation"], result["result"]["warnings"]) == (None, [])


def test_result_without_artifacts_is_shown_without_lists_of_files(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    succeed(services, job_id, CLASSIFIED, {})
    page = read(client, job_id)
    assert "Accuracy" in page
    for absent in ("<h2>Predictions</h2>", "<h2>Pictures</h2>", "<h2>Files</h2>"):
        assert absent not in page


def test_job_of_an_unknown_kind_is_shown_without_its_result(client: FlaskClient, services: Services) -> None:
    """A database may have jobs of a kind that only another version of the service has."""
    job_id = submit(services)
    succeed(services, job_id, {"steps": 3}, {"steps.txt": ("text/plain", b"3")})
    with services.database.writing() as session:
        session.execute(update(Job).values(kind="dance"))
    page = read(client, job_id)
    assert '<h1 class="mb-0">dance</h1>' in page
    assert "steps.txt?download=1" in page
    assert "<td>dance</td>" in client.get("/jobs").text
    document = client.get(f"/api/v1/jobs/{job_id}").json
    assert document is not None
    assert (document["kind"], document["result"]) == ("dance", {"steps": 3})
    assert send_form(client, f"/jobs/{job_id}", f"/jobs/{job_id}/retry").status_code == 422


def test_failed_job_shows_its_error(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    error = build_error("upload-missing", "upload-missing", {"upload": "<wrong> & bad"})
    assert transitions.finish(services.database, start_job(services, job_id), Outcome(State.FAILED, error=error))
    page = read(client, job_id)
    assert '<span class="badge state-failed">failed</span>' in page
    assert ">An upload no longer exists</h2>" in page
    assert "The upload &lt;wrong&gt; &amp; bad no longer exists." in page
    assert 'id="live"' not in page
    assert {form.action for form in Page(page).forms} == {f"/jobs/{job_id}/{action}" for action in ("retry", "delete")}


def test_queued_job_shows_the_number_of_jobs_ahead(client: FlaskClient, services: Services) -> None:
    ids = [submit(services) for _ in range(3)]
    for job_id, words in zip(
        ids, ("Next in the queue.", "1 job ahead in the queue.", "2 jobs ahead in the queue."), strict=True
    ):
        assert words in read(client, job_id)
        assert f'data-events="/api/v1/jobs/{job_id}/events"' in read(client, job_id)


@pytest.mark.parametrize(("device", "on_device"), [("auto", ""), ("cpu", " on cpu")])
def test_queued_job_without_a_live_worker_shows_a_note(
    client: FlaskClient, services: Services, device: str, on_device: str
) -> None:
    words = f" No live worker{on_device} runs jobs of this kind; the job waits until one is started."
    job_id = submit(services, device=device)
    register_worker(services, "other", DeviceClass.GPU)
    assert (words in read(client, job_id)) is (device == "cpu")
    with services.database.writing() as session:
        session.execute(update(Worker).values(kinds=["musicgen"]))
    assert words in read(client, job_id)
    register_worker(services, "one", DeviceClass.CPU)
    assert words not in read(client, job_id)


def test_running_job_shows_its_progress(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    lease = start_job(services, job_id)
    assert "Starting" in read(client, job_id)
    for done in (0, 10):
        transitions.heartbeat(services.database, lease, Progress("searching", done, 1_000_000, "rows"), 60)
    page = read(client, job_id)
    assert "Searching: 10 of 1000000 rows, " in page
    assert " rows/s, about " in page
    assert " s to the end of this stage" in page
    assert Page(page).find_all("progress") == [
        {"aria-label": "Progress of this stage", "max": "1000000", "value": "10"}
    ]
    assert "Attempt 1 of 3, on box:1 (cpu)." in page


def test_job_that_waits_for_a_download_shows_its_place_in_the_queue_and_the_progress(
    client: FlaskClient, services: Services
) -> None:
    job_id = submit(services, kind="musicgen", device="cpu", params={"model": "mindjobs/tiny"})
    need = Need(Kind.MUSICGEN, "model", "mindjobs/tiny")
    progress = Progress("downloading", 30, 120, "bytes")
    assert transitions.show_download(services.database, need, DeviceClass.CPU, progress)
    page = read(client, job_id)
    assert "Next in the queue." in page
    assert "Downloading: 30 of 120 bytes" in page
    assert 'max="120" value="30"' in page
    assert "Attempt 0 of" not in page
    assert not transitions.show_download(services.database, need, DeviceClass.GPU, progress)


def test_job_whose_worker_was_lost_waits_for_its_next_attempt(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    assert transitions.recover_lost(services.database, start_job(services, job_id), RetryDelay(60, 60))
    page = read(client, job_id)
    assert '<span class="badge state-queued">queued</span>' in page
    assert "The worker of attempt 1 was lost; the next attempt starts soon." in page


def test_cancellation_of_a_running_job_is_requested_once(client: FlaskClient, services: Services) -> None:
    job_id = submit(services)
    lease = start_job(services, job_id)
    assert send_form(client, f"/jobs/{job_id}", f"/jobs/{job_id}/cancel").status_code == 303
    page = read(client, job_id)
    assert "cancel requested" in page
    assert Page(page).forms == []
    assert transitions.finish(services.database, lease, CANCELLED)
    page = read(client, job_id)
    assert "cancel requested" not in page
    assert "A client cancelled this job." in page
