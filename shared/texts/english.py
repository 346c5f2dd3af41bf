"""The service's own sentences in English. The sentences of a kind of job are in ``shared/kinds/KIND/english.py``.

A sentence can format its values, for example ``{share:.1%}``.
"""

from collections.abc import Mapping
from typing import Final

SENTENCES: Final[Mapping[str, str]] = {
    # Requests.
    "request-invalid": "Some fields are not valid.",
    # Webhooks.
    "webhook-url-invalid": "is not a URL that can be called; use the form https://host:port/path",
    "webhook-url-credentials": "contains a user name or a password; leave them out: every message is signed",
    "webhook-address-private": "leads to an address that is not public; use a public one, or ask the operator of this "
    "instance to set MINDJOBS_ALLOW_PRIVATE_WEBHOOKS=true",
    "webhook-host-unknown": "names the host {host!r}, which is not found; check its spelling",
    # API keys.
    "key-name-taken": "There is already a key {name!r}. Choose another name, or revoke that key.",
    "key-not-found": "There is no key {name!r}. The command python -m web keys list shows all names.",
    "keys-exist": "There are still API keys: {names}. Revoke them first, with python -m web keys revoke NAME.",
    "secret-damaged": "{path} is damaged. Delete it, and a new secret is created; all sessions end, and webhooks are "
    "signed with the new secret.",
    # The start of an instance.
    "home-unusable": "MINDJOBS_HOME: {home} cannot be the state folder ({reason}). Choose a folder that this user can write to.",
    "home-in-use": "MINDJOBS_HOME: {home} is in use by another instance. Stop that instance, or choose another folder.",
    "redis-missing": "MINDJOBS_REDIS_URL: there is no redis-server or valkey-server {version} or newer on the PATH. Install one (Debian, Ubuntu: apt install redis-server), or set the address of one that runs elsewhere.",
    "port-in-use": "MINDJOBS_HOST, MINDJOBS_PORT: cannot listen on {address} ({reason}). Choose another port, for "
    "example MINDJOBS_PORT=8001.",
    "supervisor-lost": "Supervisor was ended by {signal}, and with it every process of this instance. Start the instance "
    "again: jobs that were running continue.",
    # Settings.
    "settings-wrong": "{problems}",
    "settings-renamed": "{renamed}. Rename it in the environment or in .env.",
    "setting-lease-too-short": "MINDJOBS_LEASE_S must be at least three times MINDJOBS_HEARTBEAT_S",
    "setting-timeout-too-long": "MINDJOBS_TIMEOUT_S must not be above MINDJOBS_MAX_TIMEOUT_S",
    "setting-secret-too-short": "MINDJOBS_SECRET must have at least {min_length} random characters",
    # The address is not repeated, since it may contain a password.
    "setting-redis-address": "MINDJOBS_REDIS_URL is not the address of a Redis; write redis://:PASSWORD@HOST:PORT/NUMBER or "
    "unix://:PASSWORD@/PATH?db=NUMBER, each special character of the password as % and its number (/ as %2F)",
    "setting-models-allowed": "MINDJOBS_MODELS_ALLOWED: {entry!r} is no model; write ORG/NAME, ORG/*, known (the models "
    "of the catalogue) or * (any), separated by commas",
    "setting-home-characters": "MINDJOBS_HOME: {home} contains a character that cannot be part of an address; "
    "choose a path without quotes and without % ? # ; and backslash",
    "setting-home-too-deep": "MINDJOBS_HOME is too long: {socket} has over {max_bytes} bytes, too many for a socket; "
    "choose a shorter path, or set MINDJOBS_REDIS_URL",
    "setting-host-invalid": "MINDJOBS_TRUSTED_HOSTS: {name!r} is not the name of a host; write names such as jobs.example.org, separated by commas",
    "setting-origin-invalid": "MINDJOBS_CORS_ORIGINS: {origin!r} is not an origin; write origins such as https://app.example.org, without a path, separated by commas",
    # Workers.
    "cpu-share-missing": "{device} does not exist: the cores of this machine are divided into {cpu_shares} CPU devices "
    "(MINDJOBS_CPU_SHARES), and the first is cpu:0.",
    "cpu-share-empty": "{device} does not exist: {cores} cores cannot be divided into {cpu_shares} CPU devices "
    "(MINDJOBS_CPU_SHARES).",
    "mindspore-cannot-compute": "MindSpore cannot compute on {device} ({reason}). Check the driver, and that the "
    "installed MindSpore was built for this device.",
    "device-computes-wrong": "{device} computes that 1 + 1 is {total}.",
    "job-must-stop": "The job must stop: {reason}.",
    "upload-not-given": "names the upload {upload!r}, for which no file is given; add --upload {upload}=FILE",
    # How a job ends.
    "cancelled": "A client cancelled this job.",
    "timeout": "The job had not ended when the time limit timeout_s, counted from its submission, was reached. "
    "Submit it again with a longer timeout_s, or make it smaller.",
    "worker-lost": "The worker was lost in every attempt, often because there was too little memory. "
    "Make the job smaller, or retry it.",
    "upload-missing": "The upload {upload} no longer exists. Upload the file again and submit a new job.",
    "out-of-memory": "Make the data or the request smaller and try again.",
    "engine-failed": "An unexpected error occurred that the job did not cause; the worker's log has the details. "
    "A retry may help.",
    # The database.
    "database-url-invalid": "MINDJOBS_DATABASE_URL is not the address of a database: {reason}",
    "database-scheme-unknown": "MINDJOBS_DATABASE_URL: {scheme!r} is not supported; use postgresql:// or sqlite:///.",
    # Jobs.
    "artifact-not-found": "Job {job} has no artifact {name!r}.",
    "idempotency-key-reused": "The Idempotency-Key was used for a request with another body, or for another job. Use a "
    "new key for a new request.",
    "cancel-succeeded-job": "Job {job} has succeeded and can no longer be cancelled.",
    "cancel-failed-job": "Job {job} has failed and can no longer be cancelled.",
    "cancel-cancelled-job": "Job {job} was cancelled. There is nothing left to cancel.",
    "delete-unended-job": "Job {job} is {state}. Cancel it before you delete it.",
    "delete-needed-upload": "The upload {upload} is needed by jobs that have not ended: {jobs}. Cancel them, or wait "
    "for their end, before you delete it.",
    "retry-unended-job": "Job {job} is {state}. Only a job that has ended can be retried.",
    "seed-not-in-kind": "cannot be given, since jobs of the kind {kind} have no seed",
    "queue-limit": "This API key has reached the maximum number of queued jobs, {max_jobs}. Submit more when some of them have started, or "
    "cancel some.",
    "upload-not-found": "there is no upload {upload!r}; send the file to POST /api/v1/uploads first",
    "precision-not-offered": "is not offered by any worker that is alive (device: {device}); choose one of {offered}",
    "precision-impossible": "does not exist on {device}; choose one of {offered}, or auto",
    # The file store.
    "storage-scheme-unknown": "MINDJOBS_STORAGE_URL: {url!r} has an unknown scheme; use one of {known}.",
    "storage-folder-invalid": "MINDJOBS_STORAGE_URL: {url!r} does not name a folder of this machine; "
    "write it as file:///an/absolute/folder.",
    "upload-file-missing": "the file of this upload no longer exists; upload it again",
    "file-too-large": "The file is larger than the {max_bytes} bytes allowed; send a smaller one.",
    "disk-full": "There is no space left on a disk, most likely on the one that holds {storage}. "
    "Free some space and try again.",
    # Requests.
    "key-missing": "Send an API key of this instance in the header Authorization: Bearer KEY. The operator of the "
    "instance creates keys with python -m web keys create NAME.",
    "key-missing-elsewhere": "Pages of other sites can call the API only with an API key, in the header Authorization: Bearer KEY. The operator of the instance creates keys with python -m web keys create NAME.",
    "key-revoked": "The API key or the session that opened this stream is no longer valid.",
    "keys-wrong": "The limit is {limit}. Check the key; a valid key is accepted at once.",
    "operator-only": "This needs the key of an operator. The operator of the instance creates such a key with python -m web keys create NAME --operator.",
    "job-not-found": "There is no job {job}.",
    "last-event-id-invalid": "The header Last-Event-ID is not the id of an event. Send the id of the last event that "
    "you received, or omit the header to read from the start.",
    "streams-full": "The maximum number of open streams has been reached. Read the job itself instead, or try again "
    "later.",
    "form-expired": "This form has expired, or was not sent from a page of this service. Open its page again and "
    "send it from there.",
    "host-missing": "The request has no header Host. Send one, for example Host: 127.0.0.1:8000.",
    "host-untrusted": "The host {host!r} is not a name of this instance. Its operator can add the name to "
    "MINDJOBS_TRUSTED_HOSTS.",
    "forwarded-invalid": "The proxy in front of this instance sent the header {header} with the value {value!r}, which is not valid. Its operator can correct the configuration of the proxy.",
    "address-not-found": "There is nothing at this address.",
    "method-not-allowed": "This address does not support the method {method}.",
    "body-incomplete": "The body of the request ended after {received_bytes} bytes, before its end. Send it again.",
    "body-slow": "The body of the request arrived too slowly: {received_bytes} bytes so far. Send it again over a faster "
    "connection.",
    "bodies-full": "Too many large bodies are being received. Try again in a few seconds.",
    "version-changed": "There is another version now than the one that the request requires. Read it again.",
    "body-too-large": "The body is larger than the {max_bytes} bytes allowed. Send less.",
    "rate-exceeded": "Too many requests: the limit is {limit}. Try again later.",
    "http-error": "{description}",
    "database-unavailable": "Try again in a few seconds.",
    "request-failed": "The log of the service has the details, under the request {request}.",
    "request-of-other-site": "This request was sent by a page of another site. Use the pages of this service instead, or ask the operator of this instance to add the origin of that site to MINDJOBS_CORS_ORIGINS.",
    "body-not-json": "The body is not JSON in UTF-8. Send a JSON object that has the fields kind and params.",
    "body-not-gzip": "The body is not complete, or not in the format gzip that Content-Encoding names. Send it again, or "
    "without compression.",
    "encoding-unsupported": "The Content-Encoding {encoding!r} is not supported. Send the body compressed by gzip, or "
    "without compression.",
    "idempotency-key-length": "The header Idempotency-Key has {length} characters. Use 1 to {max_length} characters.",
    # Fields of a request; the codes are pydantic's types of errors.
    "missing": "is required",
    "extra-forbidden": "is not a known field; check its spelling or leave it out",
    "model-type": "must be a JSON object",
    "model-attributes-type": "must be a JSON object",
    "dict-type": "must be a JSON object",
    "list-type": "must be a list",
    "string-type": "must be a string",
    "bool-type": "must be true or false",
    "int-type": "must be a whole number",
    "int-parsing": "must be a whole number",
    "int-from-float": "must be a whole number",
    "float-type": "must be a number",
    "float-parsing": "must be a number",
    "finite-number": "must be a finite number",
    "greater-than": "must be greater than {gt}",
    "greater-than-equal": "must be at least {ge}",
    "less-than": "must be less than {lt}",
    "less-than-equal": "must be at most {le}",
    "string-too-short": "is shorter than the minimum length of {min_length}",
    "string-too-long": "is longer than the maximum length of {max_length} characters",
    "string-pattern-mismatch": "must match the pattern {pattern}",
    "too-short": "has fewer items than the minimum of {min_length}",
    "too-long": "has more items than the maximum of {max_length}",
    "enum": "must be {expected}",
    "literal-error": "must be {expected}",
    "union-tag-invalid": "must be one of {expected_tags}",
    "union-tag-not-found": "is required",
    "timezone-aware": "must have a time zone, as in 2026-01-31T12:00:00Z",
    "datetime-parsing": "must be a date and time as in 2026-01-31T12:00:00Z",
    "datetime-from-date-parsing": "must be a date and time as in 2026-01-31T12:00:00Z",
    # Fields of a request; the codes are this service's own.
    "string-unstorable": "contains a NUL character or half of a surrogate pair; send plain text",
    "name-unstorable": "has a name that contains a NUL character or half of a surrogate pair; send plain text",
    "values-too-many": "has too many values; a request may have at most {max_values} fields and list items in all",
    "problems-omitted": "{count} more problems are not listed",
    "timeout-too-long": "must be at most {max_s:g} s on this instance",
    "key-unknown": "is not a valid API key of this instance; check it, or ask the operator",
    "label-filter-invalid": "must have the form NAME=VALUE, for example project=thesis",
    "labels-too-many": "may occur at most {max_labels} times, since no job has more labels",
    "cursor-invalid": "is not a cursor; use the next_cursor of the previous page",
    "timestamp-invalid": "must be a date and time as in RFC 3339, for example 2026-01-31T12:00:00Z",
    "timestamp-plus-unescaped": "has a blank before the time zone, because + stands for a blank in an address; write %2B "
    "instead of +, or give the time in UTC, with Z at its end",
    "parameter-repeated": "may be given only once",
    "timestamp-out-of-range": "is before the first or after the last date that can be represented; choose another one",
    # Uploads and files.
    "upload-pending": "These uploads are still being inspected: {uploads}. Send the request again in a few seconds.",
    "upload-not-table": "is not a table; upload text (CSV), Excel (.xlsx), Parquet or ARFF",
    "upload-not-audio": "is {details}, and not sound; upload the sound itself, for example as WAV, FLAC, MP3, M4A, Ogg or WebM",
    "upload-is-text": "text, such as a table, a playlist or an SVG picture",
    "upload-is-unknown": "a file whose format is not known",
    "inspection-too-slow": "reading the file took more than {limit_s:g} s; upload a smaller one, or save it in a simpler format (tables as CSV, audio as WAV)",
    "inspection-too-large": "reading the file needs more than {memory_mb} MB of memory; upload a smaller one",
    "inspection-answer-too-long": "the names and values in the file are too many or too long to be described in {max_bytes} bytes; of a table, upload fewer columns, or shorten their names",
    "inspection-died": "the file is damaged, or reading it needs more than {memory_mb} MB of memory; save it again, or upload a smaller one",
    "inspection-failed": "reading the file failed unexpectedly, and the log of the service has the details; save it in another format (tables as CSV, audio as WAV), and upload it again",
    "inspection-lost": "the file was not read in {attempts} attempts, since the service was interrupted each time; upload it again",
    "upload-empty": "is empty; send a file that has content",
    "uploaded-file-not-found": "There is no upload {upload}.",
    "uploads-full": "The uploads of this API key use all of its {max_bytes} bytes. Use a file that is already "
    "uploaded, or wait: uploads are deleted after {days:g} days.",
    "file-not-attached": "the body is the text {text!r} and not the file that it names; send the file with "
    "curl -F {text!r}, or as the body itself with curl --data-binary @FILE",
    "one-file-expected": "send exactly one file, in the field file; there are {count}",
    "filename-invalid": "has a name that is a path or contains control characters; send a plain file name",
    "filename-too-long": "has a name of more than {max_length} characters; shorten it",
    "form-upload-missing": "a file that you uploaded earlier no longer exists; choose it again",
    "form-file-problem": "{file} {problem}",
    "job-without-files": "The job {job} has no files. Only a job that has succeeded has files.",
    "artifact-file-missing": "The file {name!r} of the job {job} no longer exists. Retry the job to produce it again.",
}
"""The sentences, keyed by code."""

TITLES: Final[Mapping[str, str]] = {
    # Errors of requests.
    "internal-error": "An unexpected error occurred",
    "invalid-request": "The request is not valid",
    "malformed-request": "The request cannot be read",
    "key-required": "An API key is required",
    "limit-reached": "This API key has reached a limit",
    "operator-only": "Only an operator may do this",
    "too-many-wrong-keys": "Too many wrong API keys were sent",
    "upload-pending": "An upload is not inspected yet",
    "busy": "Too many requests of this kind are open",
    "cross-site": "Requests from other sites are refused",
    "not-found": "Not found",
    "conflict": "The state of the job does not allow this",
    "name-taken": "The name is already in use",
    "keys-exist": "There are API keys",
    "idempotency-key-reused": "This Idempotency-Key was used for another request",
    "too-large": "The content is larger than allowed",
    "body-incomplete": "The body is incomplete",
    "body-slow": "The body arrived too slowly",
    "encoding-unsupported": "The encoding of the body is not supported",
    "disk-full": "The disk is full",
    "database-unavailable": "The database does not answer",
    # Errors at the start of a process.
    "device-missing": "The device is not available",
    "settings-invalid": "A setting is wrong",
    "instance-lost": "The instance was ended from outside",
    # Errors of jobs.
    "stopped": "The job must stop",
    "cancelled": "The job was cancelled",
    "timeout": "The job took too long",
    "worker-lost": "The job's workers were lost",
    "upload-missing": "An upload no longer exists",
    "out-of-memory": "The job needs more memory than is available",
}
"""The titles of errors, keyed by the type of error."""
