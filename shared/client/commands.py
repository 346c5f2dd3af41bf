"""What each command does: it calls the client, writes answers to standard output, and tells of itself beside it."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final

from shared.client.api import Client, Envelope, JobFilter
from shared.client.arguments import JobArguments, split_pair
from shared.client.progress import open_display
from shared.client.responses import Job
from shared.jobs import State

Command = Callable[[Client, Namespace], "Exit"]
_LABELS_WIDTH: Final = 40


class Exit(IntEnum):
    """How a command ends."""

    DONE = 0
    JOB_FAILED = 1
    REFUSED = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


def submit(client: Client, given: Namespace) -> Exit:
    """Queue a job; print its id, or wait and print its result."""
    order = JobArguments(
        **{name: value for name, value in vars(given).items() if name in JobArguments.__dataclass_fields__}
    )
    envelope: Envelope = {"labels": dict(map(split_pair, given.label))}
    if given.device is not None:
        envelope["device"] = given.device
    if given.priority is not None:
        envelope["priority"] = given.priority
    params = order.write(lambda path: client.upload(path).id)
    job = client.submit(given.kind, params, idempotency_key=given.idempotency_key, **envelope)
    if not given.wait and given.download is None:
        _write(job.id)
        return Exit.DONE
    tell(f"job {job.id}")
    status = _wait(client, job.id, given)
    if status is Exit.DONE and given.download is not None:
        _download(client, job.id, given.download)
    return status


def upload(client: Client, given: Namespace) -> Exit:
    """Store a file and print its id."""
    _write(client.upload(given.file).id)
    return Exit.DONE


def wait(client: Client, given: Namespace) -> Exit:
    """Wait for a job's end and print its result."""
    return _wait(client, given.job_id, given)


def list_jobs(client: Client, given: Namespace) -> Exit:
    """Print jobs as a table."""
    wanted: JobFilter = {}
    for name in ("state", "kind", "device"):
        if (value := getattr(given, name)) is not None:
            wanted[name] = value
    jobs = client.list(dict(map(split_pair, given.label)), limit=given.limit, **wanted)
    rows = [("ID", "KIND", "STATE", "DEVICE", "PROGRESS", "CREATED", "LABELS"), *map(_describe, jobs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return Exit.DONE


def show(client: Client, given: Namespace) -> Exit:
    """Print a job as JSON."""
    _write(client.get(given.job_id).model_dump_json(indent=2))
    return Exit.DONE


def cancel(client: Client, given: Namespace) -> Exit:
    """Cancel a job."""
    job = client.cancel(given.job_id)
    tell(f"job {job.id} {'is cancelled' if job.ended else 'will stop within seconds'}")
    return Exit.DONE


def retry(client: Client, given: Namespace) -> Exit:
    """Queue a job again and print the new one's id."""
    _write(client.retry(given.job_id).id)
    return Exit.DONE


def delete(client: Client, given: Namespace) -> Exit:
    """Forget an ended job."""
    client.delete(given.job_id)
    tell(f"job {given.job_id} is deleted")
    return Exit.DONE


def download(client: Client, given: Namespace) -> Exit:
    """Fetch a job's files."""
    _download(client, given.job_id, given.to, given.names)
    return Exit.DONE


def _wait(client: Client, job_id: str, given: Namespace) -> Exit:
    display = open_display(sys.stderr)
    try:
        job = client.wait(job_id, display.show)
    except KeyboardInterrupt:
        display.close()
        address = f" --server {given.server}" if given.server else ""
        tell(f"\njob {job_id} goes on; cancel it by: python -m shared.client cancel {job_id}{address}")
        return Exit.INTERRUPTED
    finally:
        display.close()
    if job.state is State.SUCCEEDED:
        _write(json.dumps(job.result, indent=2, ensure_ascii=False))
        return Exit.DONE
    why = f": {job.error.title}. {job.error.detail}" if job.error else ""
    tell(f"job {job.id} {job.state}{why}")
    return Exit.JOB_FAILED


def _download(client: Client, job_id: str, folder: str, names: Sequence[str] = ()) -> None:
    for path in client.download(job_id, folder, *names):
        tell(str(path))


def _describe(job: Job) -> tuple[str, ...]:
    progress = f"{job.progress.done}/{job.progress.total}" if job.progress.total else ""
    labels = " ".join(f"{name}={value}" for name, value in job.labels.items())
    return (
        job.id,
        job.kind,
        job.state,
        job.device,
        progress,
        f"{job.created_at.astimezone():%Y-%m-%d %H:%M:%S}",
        labels[:_LABELS_WIDTH],
    )


def _write(text: str) -> None:
    sys.stdout.write(f"{_clean(text)}\n")


def tell(text: str) -> None:
    """Write to the person, beside the answers."""
    sys.stderr.write(f"{_clean(text)}\n")


def _clean(text: str) -> str:
    """Take out what would command the terminal instead of being shown."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text)
