"""Submission without the web: the requests that are refused before a job is queued."""

from dataclasses import replace
from typing import Any, Final

import pytest

from shared.database import queries
from shared.errors import Problem, RequestInvalidError
from shared.jobs import CANCELLED, DeviceClass
from shared.services import Services
from shared.submission.retry import retry_job
from shared.submission.submit import submit_job
from shared.texts import text
from tests.support.job_outcomes import end, register_worker, start_job, store_upload

MUSICGEN: Final = {"kinds": ["musicgen"]}


def submit_music(services: Services, precision: str, device: str = "cpu") -> str:
    body = {"kind": "musicgen", "device": device, "params": {"prompts": ["rock"], "precision": precision}}
    return submit_job(services, body)[0].id


def list_problems(services: Services, body: dict[str, Any]) -> list[Problem]:
    with pytest.raises(RequestInvalidError) as caught:
        submit_job(services, body)
    with services.database.reading() as session:
        assert queries.list_jobs(session, queries.JobFilter(), limit=1) == []
    return caught.value.problems


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_precision_that_no_worker_offers_is_refused(services: Services, device: str) -> None:
    for name, offered in (("one", ["int8", "float32"]), ("two", ["int4", "float32"])):
        register_worker(services, name, DeviceClass.CPU, **MUSICGEN, precisions={"musicgen": offered})
    params = {"prompts": ["rock"], "precision": "bfloat16"}
    (problem,) = list_problems(services, {"kind": "musicgen", "device": device, "params": params})
    assert problem.pointer == "/params/precision"
    assert problem.text == text(
        "precision-not-offered", precision="bfloat16", device=device, offered="float32, int4, int8"
    )
    assert "choose one of float32, int4, int8" in problem.detail
    for precision in ("int4", "int8", "float32", "auto"):
        submit_music(services, precision, device)


def test_a_precision_of_another_device_class_is_refused_unless_the_device_is_auto(services: Services) -> None:
    register_worker(services, "one", DeviceClass.CPU, **MUSICGEN, precisions={"musicgen": ["int8"]})
    register_worker(services, "two", DeviceClass.ASCEND, **MUSICGEN, precisions={"musicgen": ["float16"]})
    with pytest.raises(RequestInvalidError):
        submit_music(services, "float16", "cpu")
    submit_music(services, "float16", "ascend")
    submit_music(services, "float16", "auto")


@pytest.mark.parametrize("without", ["any worker", "precisions of a worker"])
def test_a_precision_that_exists_on_the_device_is_accepted_if_the_offers_are_not_known(
    services: Services, without: str
) -> None:
    if without == "any worker":
        register_worker(services, "knn", DeviceClass.CPU, kinds=["knn"], precisions={})
        register_worker(
            services, "silent", DeviceClass.CPU, **MUSICGEN, precisions={"musicgen": ["int8"]}, beat_interval_s=-1
        )
    else:
        register_worker(services, "one", DeviceClass.CPU, **MUSICGEN, precisions={"musicgen": ["int8"]})
        register_worker(services, "of an earlier version", DeviceClass.CPU, **MUSICGEN)
    for precision, device in (("bfloat16", "cpu"), ("int4", "cpu"), ("float16", "gpu"), ("float16", "auto")):
        submit_music(services, precision, device)
    for precision, device, offered in (
        ("float16", "cpu", "bfloat16, float32, int4, int8"),
        ("int8", "gpu", "float16, float32"),
    ):
        with pytest.raises(RequestInvalidError) as caught:
            submit_music(services, precision, device)
        (problem,) = caught.value.problems
        assert (problem.pointer, problem.code) == ("/params/precision", "precision-impossible")
        assert problem.detail == f"does not exist on {device}; choose one of {offered}, or auto"


def test_a_retry_with_a_precision_that_is_no_longer_offered_is_refused(services: Services) -> None:
    job_id = submit_music(services, "int4")
    end(services, start_job(services, job_id), CANCELLED, {})
    register_worker(services, "one", DeviceClass.CPU, **MUSICGEN, precisions={"musicgen": ["int8"]})
    with pytest.raises(RequestInvalidError) as caught:
        retry_job(services, job_id)
    assert [problem.code for problem in caught.value.problems] == ["precision-not-offered"]
    retried, _ = retry_job(services, job_id, changes={"precision": "auto"})
    assert (retried.retry_of, retried.params["precision"]) == (job_id, "auto")


def test_an_unknown_upload_and_an_upload_without_a_stored_file_are_refused(services: Services) -> None:
    upload = store_upload(services, b"k,a\nx,1\ny,2\n")
    services.files.remove(upload.key)
    for upload_id, expected in (
        (upload.id, text("upload-file-missing")),
        ("nonsense", text("upload-not-found", upload="nonsense")),
    ):
        body = {"kind": "knn", "params": {"dataset": {"upload": upload_id, "label": "k"}, "k": 1}}
        assert list_problems(services, body) == [Problem("/params/dataset/upload", expected)]


def test_a_model_that_is_not_allowed_is_refused(services: Services) -> None:
    params = {"model": "someone/private", "prompts": ["rock"]}
    (problem,) = list_problems(services, {"kind": "musicgen", "params": params})
    assert (problem.pointer, problem.code) == ("/params/model", "model-not-allowed")
    for words in ("someone/private", "GET /models", "MINDJOBS_MODELS_ALLOWED"):
        assert words in problem.detail


def test_a_retry_with_a_model_that_is_no_longer_allowed_is_refused(services: Services) -> None:
    job_id = submit_music(services, "auto")
    end(services, start_job(services, job_id), CANCELLED, {})
    changed = replace(services, settings=services.settings.model_copy(update={"models_allowed": "mindjobs/tiny"}))
    with pytest.raises(RequestInvalidError) as caught:
        retry_job(changed, job_id)
    assert [problem.pointer for problem in caught.value.problems] == ["/params/model"]
