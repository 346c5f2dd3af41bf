"""Run one job in the foreground: ``python -m worker.once KIND PARAMS --out FOLDER``.

The command needs neither Redis nor a database nor Celery. The engine runs in this
process, so that a debugger can stop in the engine. The result is printed as JSON.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.client.events import Event
from shared.client.progress import open_display
from shared.client.responses import Progress
from shared.errors import MindjobsError, Problem, RequestInvalidError
from shared.inspection.inspectors import INSPECTORS, Inspector, inspect_file
from shared.jobs import DeviceClass, Kind
from shared.kinds import KINDS, list_uploads
from shared.logs import set_up_logging
from shared.schemas.strict import Strict
from shared.schemas.submission import parse_submission
from shared.settings import Settings, load_settings
from shared.texts import text
from worker.__main__ import parse_device
from worker.devices import Device, pin_process
from worker.engines import ENGINES
from worker.engines.interface import JobContext, SaveArtifact

DEFAULT_DEVICE = Device(DeviceClass.CPU, 0)


def parse_json(value: str) -> object:
    """Parse JSON for argparse."""
    try:
        return json.loads(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"this is not JSON: {error}") from error


def parse_upload(value: str) -> tuple[str, Path]:
    """Parse the id and the file of an upload, such as ``u1=clip.wav``, for argparse."""
    upload_id, separator, file = value.partition("=")
    if not upload_id or not separator or not Path(file).is_file():
        raise argparse.ArgumentTypeError(f"{value!r}: write ID=FILE with the path of a file, such as u1=clip.wav")
    return upload_id, Path(file)


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m worker.once", description="Run one job in the foreground, and print its result as JSON."
    )
    parser.add_argument("kind", type=Kind, choices=[*Kind], metavar="KIND", help=" or ".join(Kind))
    parser.add_argument("params", type=parse_json, metavar="PARAMS", help="the parameters of the job, as JSON")
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="FOLDER", help="for the job's files (out)")
    parser.add_argument("--device", type=parse_device, default=DEFAULT_DEVICE, help="cpu:N, gpu:N or ascend:N (cpu:0)")
    parser.add_argument(
        "--upload",
        type=parse_upload,
        action="append",
        default=[],
        metavar="ID=FILE",
        help='a file that the parameters name as an upload: --upload u1=clip.wav for "upload": "u1"',
    )
    return parser


def parse_params(kind: Kind, given: object, uploads: Mapping[str, Path], settings: Settings) -> Strict:
    """Parse the parameters, and check the parameters and the uploads in the same way as at submission.

    Raises
    ------
    RequestInvalidError
        Parameters are wrong; the error names each of these parameters.
    """
    params = parse_submission({"kind": kind, "params": given}, settings.max_timeout_s).params
    missing = [
        Problem(pointer, text("upload-not-given", upload=upload_id))
        for pointer, upload_id in list_uploads(kind, params).items()
        if upload_id not in uploads
    ]
    if missing:
        raise RequestInvalidError(missing)
    spec = KINDS[kind]
    facts: dict[str, Mapping[str, Any]] = {}
    if spec.reads is not None:
        for pointer, upload_id in list_uploads(kind, params).items():
            read = spec.list_read_options(params).get(upload_id, {})
            facts[upload_id] = inspect_upload(INSPECTORS[spec.reads], pointer, uploads[upload_id], settings, read)
    resolved: Strict = spec.resolve(params, facts, settings)
    return resolved


def inspect_upload(
    inspector: Inspector, pointer: str, path: Path, settings: Settings, read: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return what is in an upload.

    Raises
    ------
    RequestInvalidError
        The upload is unreadable; the error names the field.
    """
    answer = inspect_file(inspector, path, settings, read)
    if answer.problem is not None:
        raise RequestInvalidError.at(pointer, answer.problem)
    return answer.facts or {}


def run_engine(kind: Kind, device: Device, settings: Settings, context: JobContext[Any]) -> dict[str, Any]:
    """Pin this process to the device, run the engine there, and return the result."""
    pin_process(device, settings.cpu_shares)
    spec = ENGINES[kind]
    backend = spec.choose_backend(device.device_class, settings)
    backend.probe(device)
    backend.prepare_process(device)
    return spec.make(device, settings).run(context)


def make_writer(folder: Path) -> SaveArtifact:
    """Return a function that writes artifacts into a folder."""
    written: set[str] = set()

    def save(name: str, media_type: str, content: bytes) -> None:  # noqa: ARG001 - a folder stores no media types
        if name in written:
            raise ValueError(f"the engine saved {name!r} twice")
        written.add(name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return save


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a job.

    An unexpected error of the engine is not caught, so that Python shows the traceback or a debugger starts.

    Returns
    -------
    The exit status.
    """
    chosen = make_parser().parse_args(arguments)
    uploads = dict(chosen.upload)
    display = open_display(sys.stderr)

    def report(*, stage: str, done: int, total: int, unit: str) -> None:
        display.show(Event(Progress(stage=stage, done=done, total=total, unit=unit)))

    try:
        settings = load_settings()
        set_up_logging(settings)
        params = parse_params(chosen.kind, chosen.params, uploads, settings)
        context = JobContext(params, uploads, report, make_writer(chosen.out))
        result = run_engine(chosen.kind, chosen.device, settings, context)
    except RequestInvalidError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem.pointer}: {problem.detail}\n")
        return 1
    except MindjobsError as error:
        sys.stderr.write(f"{error.title}: {error.detail}\n")
        return 1
    finally:
        display.close()
    sys.stdout.write(f"{json.dumps(result, indent=2, ensure_ascii=False)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
