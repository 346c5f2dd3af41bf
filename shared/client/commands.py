"""The commands: each command calls the client, and prints results on standard output and messages on standard error."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Final

from shared.client import reproduction
from shared.client.api import Client, Envelope, JobFilter
from shared.client.arguments import JobArguments, split_pair
from shared.client.progress import open_display
from shared.client.responses import Job, Upload
from shared.jobs import STATE_PHRASES, State

Command = Callable[[Client, Namespace], "Exit"]
_LABELS_WIDTH: Final = 40


class Exit(IntEnum):
    """The exit status of a command."""

    DONE = 0
    JOB_FAILED = 1
    REFUSED = 2
    UNREACHABLE = 3
    DIFFERENT = 4
    INTERRUPTED = 130


def submit(client: Client, arguments: Namespace) -> Exit:
    """Queue a job; print the id of the job, or wait for its end and print its result."""
    job_arguments = JobArguments(
        **{name: value for name, value in vars(arguments).items() if name in JobArguments.__dataclass_fields__}
    )
    envelope: Envelope = {"labels": dict(map(split_pair, arguments.label))}
    if arguments.device is not None:
        envelope["device"] = arguments.device
    if arguments.priority is not None:
        envelope["priority"] = arguments.priority
    # A submission waits only a short time for the inspection of an upload.
    params = job_arguments.build(lambda path: client.wait_for_upload(client.upload(path).id).id)
    job = client.submit(arguments.kind, params, idempotency_key=arguments.idempotency_key, **envelope)
    if not arguments.wait and arguments.download is None:
        _print(job.id)
        return Exit.DONE
    print_message(f"job {job.id}")
    status = _wait(client, job.id, arguments)
    if status is Exit.DONE and arguments.download is not None:
        _download(client, job.id, arguments.download)
    return status


def upload(client: Client, arguments: Namespace) -> Exit:
    """Upload a file and print the id of the upload."""
    _print(client.upload(arguments.file).id)
    return Exit.DONE


def list_uploads(client: Client, arguments: Namespace) -> Exit:
    """Print uploads as a table."""
    uploads = client.list_uploads(limit=arguments.limit)
    _print_table([("ID", "BYTES", "TYPE", "CREATED", "NAME"), *map(_format_upload, uploads)])
    return Exit.DONE


def delete_upload(client: Client, arguments: Namespace) -> Exit:
    """Delete an upload."""
    client.delete_upload(arguments.upload_id)
    print_message(f"upload {arguments.upload_id} is deleted")
    return Exit.DONE


def wait(client: Client, arguments: Namespace) -> Exit:
    """Wait for a job's end and print its result."""
    return _wait(client, arguments.job_id, arguments)


def list_jobs(client: Client, arguments: Namespace) -> Exit:
    """Print jobs as a table."""
    wanted: JobFilter = {}
    for name in ("state", "kind", "device"):
        if (value := getattr(arguments, name)) is not None:
            wanted[name] = value
    jobs = client.list(dict(map(split_pair, arguments.label)), limit=arguments.limit, **wanted)
    _print_table([("ID", "KIND", "STATE", "DEVICE", "PROGRESS", "CREATED", "LABELS"), *map(_format_row, jobs)])
    return Exit.DONE


def show(client: Client, arguments: Namespace) -> Exit:
    """Print a job as JSON."""
    _print(client.get(arguments.job_id).model_dump_json(indent=2))
    return Exit.DONE


def cancel(client: Client, arguments: Namespace) -> Exit:
    """Cancel a job."""
    job = client.cancel(arguments.job_id)
    print_message(f"job {job.id} {'was cancelled' if job.ended else 'stops within seconds'}")
    return Exit.DONE


def retry(client: Client, arguments: Namespace) -> Exit:
    """Submit an ended job again and print the id of the new job."""
    job = client.retry(arguments.job_id, new_seed=arguments.new_seed, idempotency_key=arguments.idempotency_key)
    _print(job.id)
    return Exit.DONE


def delete(client: Client, arguments: Namespace) -> Exit:
    """Delete an ended job."""
    client.delete(arguments.job_id)
    print_message(f"job {arguments.job_id} is deleted")
    return Exit.DONE


def download(client: Client, arguments: Namespace) -> Exit:
    """Download the files of a job."""
    _download(client, arguments.job_id, arguments.to, arguments.names)
    return Exit.DONE


def archive(client: Client, arguments: Namespace) -> Exit:
    """Download the files of a job in one zip archive."""
    path = arguments.to or f"{client.get(arguments.job_id).id}.zip"
    print_message(str(client.download_archive(arguments.job_id, path)))
    return Exit.DONE


def reproduce(client: Client, arguments: Namespace) -> Exit:
    """Generate the music of a file again, and say whether its codes are equal."""
    provenance = reproduction.read_provenance(Path(arguments.file))
    clip = None if arguments.clip is None else Path(arguments.clip)
    reproduction.check_clip(provenance, clip)
    params = reproduction.build_params(provenance, lambda: client.wait_for_upload(client.upload(arguments.clip).id).id)
    job = client.submit(reproduction.KIND, params, device=arguments.device or provenance.device)
    print_message(f"job {job.id}")
    ended = _follow(client, job.id, arguments)
    if isinstance(ended, Exit):
        return ended
    comparison = reproduction.compare(client, provenance, ended)
    if comparison.equal:
        _print(f"equal: job {job.id} has generated the codes of {arguments.file} again")
        return Exit.DONE
    _print(f"different: job {job.id} has generated other codes than those of {arguments.file}")
    for name, (file_value, job_value) in comparison.differences.items():
        _print(f"  {name}: {file_value} made the file, {job_value} made the job")
    return Exit.DIFFERENT


def _wait(client: Client, job_id: str, arguments: Namespace) -> Exit:
    """Wait for a job's end, print its result, and return the exit status."""
    ended = _follow(client, job_id, arguments)
    if isinstance(ended, Exit):
        return ended
    _print(json.dumps(ended.result, indent=2, ensure_ascii=False))
    return Exit.DONE


def _follow(client: Client, job_id: str, arguments: Namespace) -> Job | Exit:
    """Wait for a job's end and return the job; if it did not succeed, say why and return the exit status."""
    display = open_display(sys.stderr)
    try:
        job = client.wait(job_id, display.show)
    except KeyboardInterrupt:
        display.close()
        address = f" --server {arguments.server}" if arguments.server else ""
        print_message(f"\njob {job_id} continues; to cancel it: python -m shared.client cancel {job_id}{address}")
        return Exit.INTERRUPTED
    finally:
        display.close()
    if job.state is State.SUCCEEDED:
        return job
    why = f": {job.error.title}. {job.error.detail}" if job.error and job.state is State.FAILED else ""
    print_message(f"job {job.id} {STATE_PHRASES[job.state]}{why}")
    return Exit.JOB_FAILED


def _download(client: Client, job_id: str, folder: str, names: Sequence[str] = ()) -> None:
    for path in client.download(job_id, folder, *names):
        print_message(str(path))


def _format_row(job: Job) -> tuple[str, ...]:
    progress = f"{job.progress.done}/{job.progress.total}" if job.progress.total else ""
    labels = " ".join(f"{name}={value}" for name, value in job.labels.items())
    return (
        job.id,
        job.kind,
        job.state,
        job.device,
        progress,
        _format_time(job.created_at),
        labels[:_LABELS_WIDTH],
    )


def _format_upload(upload: Upload) -> tuple[str, ...]:
    return (upload.id, str(upload.bytes), upload.media_type, _format_time(upload.created_at), upload.filename or "")


def _format_time(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print(text: str) -> None:
    sys.stdout.write(f"{_replace_control_characters(text)}\n")


def print_message(text: str) -> None:
    """Print a message for people on standard error."""
    sys.stderr.write(f"{_replace_control_characters(text)}\n")


def _replace_control_characters(text: str) -> str:
    """Replace control characters, which a terminal would execute instead of showing them."""
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}" for character in text
    )
