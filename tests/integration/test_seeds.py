"""Seeds: drawn at submission so that every client can send them back, and the same in a retry."""

from typing import Any, Final

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update
from werkzeug.test import TestResponse

from shared.database.tables import Job
from shared.jobs import CANCELLED
from shared.kinds.musicgen.parameters import MAX_SEED
from shared.kinds.musicgen.seeds import MAX_EXACT, draw_seed
from shared.services import Services
from tests.support.job_outcomes import MUSIC, end, make_sample, start_job, succeed

JOBS: Final = "/api/v1/jobs"
PARAMS: Final[dict[str, Any]] = {"model": "mindjobs/tiny", "prompts": ["rock"]}
MUSICGEN: Final[dict[str, Any]] = {"kind": "musicgen", "params": PARAMS}


def read(response: TestResponse, status: int = 202) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert isinstance(response.json, dict)
    return response.json


def submit(client: FlaskClient, **params: Any) -> dict[str, Any]:
    return read(client.post(JOBS, json=MUSICGEN | {"params": PARAMS | params}))


def store_like_an_earlier_version(services: Services, job_id: str) -> None:
    """Let the parameters of a job have no seed, as when the worker drew it."""
    with services.database.writing() as session:
        params = session.get_one(Job, job_id).params | {"seed": None}
        session.execute(update(Job).where(Job.id == job_id).values(params=params))


def test_every_drawn_seed_is_exact_in_javascript_for_all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {draw_seed() for _ in range(1_000)}
    assert len(drawn) == 1_000
    assert max(drawn) > MAX_EXACT / 2
    monkeypatch.setattr("secrets.randbelow", lambda bound: bound - 1)
    assert draw_seed() + 64 * 64 - 1 < 2**53
    assert draw_seed() + 64 * 64 == 2**53 - 1


def test_the_seed_is_drawn_at_submission_and_a_given_one_is_kept(client: FlaskClient) -> None:
    first, second = submit(client), submit(client, seed=None)
    assert first["params"]["seed"] != second["params"]["seed"]
    for job in (first, second):
        assert 0 <= job["params"]["seed"] < MAX_EXACT
    assert [submit(client, seed=seed)["params"]["seed"] for seed in (0, MAX_SEED)] == [0, MAX_SEED]


def test_a_repeated_submission_is_recognised_by_its_body_and_not_by_the_drawn_seed(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "once"}
    first = read(client.post(JOBS, json=MUSICGEN, headers=headers))
    assert read(client.post(JOBS, json=MUSICGEN, headers=headers), 200) == first
    other = MUSICGEN | {"params": PARAMS | {"seed": first["params"]["seed"]}}
    assert client.post(JOBS, json=other, headers=headers).status_code == 422


@pytest.mark.parametrize("outcome", ["succeeded", "cancelled", "succeeded in an earlier version"])
def test_a_retry_has_the_same_seed_and_can_have_another_one(
    client: FlaskClient, services: Services, outcome: str
) -> None:
    job = submit(client)
    seed = job["params"]["seed"]
    if outcome == "cancelled":
        end(services, start_job(services, job["id"]), CANCELLED, {})
    else:
        succeed(services, job["id"], MUSIC | {"samples": [make_sample(0, seed=seed), make_sample(1)]}, {})
    if "earlier" in outcome:
        store_like_an_earlier_version(services, job["id"])
    retry = f"{JOBS}/{job['id']}/retry"
    same = read(client.post(retry))
    assert (same["params"], same["retry_of"]) == (job["params"], job["id"])
    other = read(client.post(f"{retry}?seed=new"))
    assert other["params"] | {"seed": seed} == job["params"]
    assert other["params"]["seed"] != seed
    # A retry of a retry is the same again.
    end(services, start_job(services, other["id"]), CANCELLED, {})
    assert read(client.post(f"{JOBS}/{other['id']}/retry"))["params"] == other["params"]


def test_a_job_of_an_earlier_version_that_ended_without_a_result_gets_a_seed(
    client: FlaskClient, services: Services
) -> None:
    job = submit(client)
    end(services, start_job(services, job["id"]), CANCELLED, {})
    store_like_an_earlier_version(services, job["id"])
    assert read(client.post(f"{JOBS}/{job['id']}/retry"))["params"]["seed"] < MAX_EXACT


def test_a_repeated_retry_with_a_new_seed_creates_one_job(client: FlaskClient, services: Services) -> None:
    job = submit(client)
    end(services, start_job(services, job["id"]), CANCELLED, {})
    retry, headers = f"{JOBS}/{job['id']}/retry", {"Idempotency-Key": "once"}
    first = read(client.post(f"{retry}?seed=new", headers=headers))
    assert read(client.post(f"{retry}?seed=new", headers=headers), 200)["id"] == first["id"]
    assert read(client.post(retry, headers=headers), 422)["type"] == "idempotency-key-reused"


def test_a_knn_job_is_retried_with_another_seed(client: FlaskClient, services: Services) -> None:
    evaluation = {"method": "kfold", "folds": 5, "seed": 3}
    job = read(client.post(JOBS, json={"kind": "knn", "params": {"evaluation": evaluation}}))
    end(services, start_job(services, job["id"]), CANCELLED, {})
    assert read(client.post(f"{JOBS}/{job['id']}/retry"))["params"] == job["params"]
    other = read(client.post(f"{JOBS}/{job['id']}/retry?seed=new"))["params"]
    assert other["evaluation"] | {"seed": 3} == job["params"]["evaluation"]
    assert other["evaluation"]["seed"] != 3


@pytest.mark.parametrize(
    ("query", "pointer"), [("seed=5", "/seed"), ("seed=new&seed=new", "/seed"), ("sed=new", "/sed")]
)
def test_a_wrong_query_of_a_retry_is_refused(client: FlaskClient, query: str, pointer: str) -> None:
    job = submit(client)
    refused = read(client.post(f"{JOBS}/{job['id']}/retry?{query}"), 422)
    assert [problem["pointer"] for problem in refused["errors"]] == [pointer]
