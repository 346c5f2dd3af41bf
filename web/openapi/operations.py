"""Every operation, once, by the endpoint of its view; the view's own first line says what it does."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST

from web.openapi.operation import JSON, Node, Operation, Response, describe_content, refer

_BINARY: Final[Node] = {"type": "string", "format": "binary"}
_JOB: Final = describe_content(JSON, refer("Job"))
_ANY_FILE: Final[Node] = {"*/*": {}}
_OF_A_JOB: Final = ("ETag", "Retry-After", "Preference-Applied")
_LOCATED: Final = ("Location", *_OF_A_JOB)
_EXAMPLES: Final[Node] = {
    "knn": {"value": {"kind": "knn", "params": {"dataset": {"name": "wine"}, "k": [1, 3, 5]}, "device": "cpu"}},
    "musicgen": {"value": {"kind": "musicgen", "params": {"prompts": ["80s pop track"], "duration_s": 5}}},
}


def _json(description: str, schema: str) -> Response:
    return Response(description, describe_content(JSON, refer(schema)))


OPERATIONS: Final[Mapping[str, Operation]] = {
    "api.store_upload": Operation(
        "Uploads",
        {201: _json("It is stored; its id stands in job parameters.", "Upload")},
        problems=(413, 422, 507),
        body={
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": _BINARY}, "required": ["file"]}
            },
            "*/*": {"schema": _BINARY},
        },
    ),
    "api.submit_job": Operation(
        "Jobs",
        {
            200: Response("The job that the same Idempotency-Key and body had made before.", _JOB, _LOCATED),
            202: Response("The job is queued; with Prefer, it may have ended since.", _JOB, _LOCATED),
        },
        problems=(413, 422),
        parameters=("Idempotency-Key", "Prefer"),
        body={JSON: {"schema": refer("Submission"), "examples": _EXAMPLES}},
    ),
    "api.list_jobs": Operation(
        "Jobs",
        {200: _json("A page of the list.", "JobList")},
        problems=(422,),
        parameters=("labels",),
        query="ListQuery",
    ),
    "api.get_job": Operation(
        "Jobs",
        {
            200: Response("The job.", _JOB, _OF_A_JOB),
            304: Response("Nothing has changed since the client's copy.", headers=("ETag",)),
            412: Response("If-Match names another version than this.", _JOB, _OF_A_JOB),
        },
        parameters=("Prefer", "If-None-Match"),
    ),
    "api.cancel_job": Operation(
        "Jobs", {202: Response("It is cancelled, or asked to stop.", _JOB, _LOCATED)}, problems=(409,)
    ),
    "api.retry_job": Operation("Jobs", {202: Response("The new job is queued.", _JOB, _LOCATED)}, problems=(409, 422)),
    "api.delete_job": Operation("Jobs", {204: Response("It is gone.")}, problems=(409,)),
    "api.stream_events": Operation(
        "Jobs",
        {
            200: Response(
                "Events `state`, `progress` and `artifact`, each with an `id` and JSON as its `data`; the stream ends "
                "after the final state.",
                describe_content("text/event-stream", {"type": "string"}),
            ),
            204: Response("Last-Event-ID is the last event of a job that has ended: nothing more will come."),
        },
        parameters=("Last-Event-ID",),
    ),
    "api.get_artifact": Operation(
        "Jobs",
        {
            200: Response("The file.", _ANY_FILE, ("ETag", "Accept-Ranges")),
            206: Response("The bytes asked for.", _ANY_FILE, ("ETag", "Accept-Ranges", "Content-Range")),
            304: Response("The client's copy is still right.", headers=("ETag",)),
            412: Response("If-Match names another version than this.", _ANY_FILE, ("ETag",)),
        },
        problems=(416,),
        parameters=("Range", "If-None-Match", "download"),
    ),
    "api.list_models": Operation("Catalogue", {200: _json("The models.", "ModelList")}),
    "api.list_datasets": Operation("Catalogue", {200: _json("The data sets.", "DatasetList")}),
    "api.list_devices": Operation("Catalogue", {200: _json("The classes of device, best first.", "DeviceList")}),
    "api.show_description": Operation(
        "Description", {200: Response("This document.", describe_content(JSON, {"type": "object"}))}
    ),
    "api.show_docs": Operation(
        "Description", {200: Response("A page.", describe_content("text/html", {"type": "string"}))}
    ),
    "health.alive": Operation("Operation", {200: _json("The process answers.", "Liveness")}),
    "health.ready": Operation(
        "Operation",
        {200: _json("Jobs can be taken.", "Readiness"), 503: _json("What is named does not answer.", "Readiness")},
    ),
    "metrics.show_metrics": Operation(
        "Operation", {200: Response("The figures.", describe_content(CONTENT_TYPE_LATEST, {"type": "string"}))}
    ),
}
