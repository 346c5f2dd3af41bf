"""All operations of the API, keyed by the endpoint of the view. The summary is the first line of a view's docstring."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST

from shared.kinds import KINDS
from web.kinds import PAGES
from web.openapi.operation import JSON, Node, Operation, Response, describe_content, describe_json, refer

_BINARY: Final[Node] = {"type": "string", "format": "binary"}
_JOB: Final = describe_content(JSON, refer("Job"))
_ANY_FILE: Final[Node] = {"*/*": {}}
_TOO_LONG: Final = Response("The address is longer than the server reads.", _ANY_FILE, by_server=True)
_JOB_HEADERS: Final = ("ETag", "Retry-After", "Preference-Applied")
_LOCATION_AND_JOB_HEADERS: Final = ("Location", *_JOB_HEADERS)
_EXAMPLES: Final[Node] = {
    str(kind): {"value": {"kind": str(kind), "params": dict(spec.example)}} for kind, spec in KINDS.items()
}

_OWN_OPERATIONS: Final[Mapping[str, Operation]] = {
    "api.store_upload": Operation(
        "Uploads",
        {201: describe_json("The file is stored. Job parameters refer to it by its id.", "UploadSummary")},
        problems=(413, 422, 507),
        body={
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": _BINARY}, "required": ["file"]}
            },
            "*/*": {"schema": _BINARY},
        },
    ),
    "api.list_uploads": Operation(
        "Uploads",
        {200: describe_json("A page of the list.", "UploadList"), 414: _TOO_LONG},
        problems=(422,),
        query="PageQuery",
    ),
    "api.get_upload": Operation(
        "Uploads",
        {200: Response("The upload.", describe_content(JSON, refer("Upload")), ("Preference-Applied",))},
        parameters=("Prefer",),
    ),
    "api.delete_upload": Operation("Uploads", {204: Response("The upload is deleted.")}, problems=(409,)),
    "api.submit_job": Operation(
        "Jobs",
        {
            200: Response(
                "The job of an earlier request with the same `Idempotency-Key` and body.",
                _JOB,
                _LOCATION_AND_JOB_HEADERS,
            ),
            202: Response(
                "The job is queued. With `Prefer: wait` it may have ended since.", _JOB, _LOCATION_AND_JOB_HEADERS
            ),
        },
        problems=(413, 422),
        parameters=("Idempotency-Key", "Prefer"),
        body={JSON: {"schema": refer("Submission"), "examples": _EXAMPLES}},
    ),
    "api.list_jobs": Operation(
        "Jobs",
        {200: describe_json("A page of the list.", "JobList"), 414: _TOO_LONG},
        problems=(422,),
        parameters=("labels",),
        query="ListQuery",
    ),
    "api.get_job": Operation(
        "Jobs",
        {
            200: Response("The job.", _JOB, _JOB_HEADERS),
            304: Response("The job has not changed since the client's copy.", headers=("ETag",)),
        },
        problems=(412,),
        parameters=("Prefer", "If-None-Match"),
    ),
    "api.cancel_job": Operation(
        "Jobs",
        {202: Response("The job is cancelled, or will stop soon.", _JOB, _LOCATION_AND_JOB_HEADERS)},
        problems=(409,),
    ),
    "api.retry_job": Operation(
        "Jobs",
        {
            200: Response(
                "The new job of an earlier request with the same `Idempotency-Key`.", _JOB, _LOCATION_AND_JOB_HEADERS
            ),
            202: Response("The new job is queued.", _JOB, _LOCATION_AND_JOB_HEADERS),
        },
        problems=(409, 422),
        parameters=("Idempotency-Key",),
        query="RetryQuery",
    ),
    "api.delete_job": Operation("Jobs", {204: Response("The job is deleted.")}, problems=(409,)),
    "api.stream_events": Operation(
        "Jobs",
        {
            200: Response(
                "Events `state`, `progress` and `artifact`, each with an `id` and with JSON as its `data`. The stream "
                "ends after the final state.",
                describe_content("text/event-stream", {"type": "string"}),
            ),
            204: Response("`Last-Event-ID` is the last event of a job that has ended: no more events will follow."),
        },
        parameters=("Last-Event-ID",),
    ),
    "api.get_artifact": Operation(
        "Jobs",
        {
            200: Response("The file.", _ANY_FILE, ("ETag", "Accept-Ranges")),
            206: Response("The requested bytes.", _ANY_FILE, ("ETag", "Accept-Ranges", "Content-Range")),
            304: Response("The file has not changed since the client's copy.", headers=("ETag",)),
        },
        problems=(412, 416),
        parameters=("Range", "If-None-Match", "download"),
    ),
    "api.get_archive": Operation(
        "Jobs",
        {
            200: Response("The archive.", {"application/zip": {}}, ("ETag",)),
            304: Response("The job has not changed since the client's copy.", headers=("ETag",)),
        },
        problems=(412,),
        parameters=("If-None-Match",),
    ),
    "api.list_devices": Operation("Catalogue", {200: describe_json("The device classes, best first.", "DeviceList")}),
    "api.show_description": Operation(
        "Description", {200: Response("This document.", describe_content(JSON, {"type": "object"}))}
    ),
    "api.show_docs": Operation(
        "Description", {200: Response("A page.", describe_content("text/html", {"type": "string"}))}
    ),
    "health.alive": Operation("Operation", {200: describe_json("The process answers.", "Liveness")}),
    "health.ready": Operation(
        "Operation",
        {
            200: describe_json("The service can accept jobs.", "Readiness"),
            503: describe_json("The named parts do not answer.", "Readiness"),
        },
    ),
    "metrics.show_metrics": Operation(
        "Operation", {200: Response("The metrics.", describe_content(CONTENT_TYPE_LATEST, {"type": "string"}))}
    ),
}

OPERATIONS: Final[Mapping[str, Operation]] = {
    **_OWN_OPERATIONS,
    **{
        f"api.{kind}.{view}": operation
        for kind, pages in PAGES.items()
        if pages.api is not None
        for view, operation in pages.api.operations.items()
    },
}
"""All operations, keyed by endpoint. They include the operations that belong to one kind of job only."""
