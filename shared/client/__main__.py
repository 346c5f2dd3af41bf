"""Submit jobs to mindjobs, follow them and download their files: ``python -m shared.client``."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from shared.client import commands
from shared.client.api import SERVER, Client
from shared.client.commands import Exit
from shared.client.errors import ClientError
from shared.jobs import DeviceClass, Kind, State

_EPILOG = (
    "The environment variables MINDJOBS_SERVER and MINDJOBS_KEY can name the server and the API key. Exit status: "
    "0 success; 1 the job failed or was cancelled; 2 the request is not valid; 3 the server cannot be reached; "
    "4 the music is not the same (reproduce)."
)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shared.client", description=__doc__.replace("``", ""), epilog=_EPILOG
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--server", help=f"address of the service (default: MINDJOBS_SERVER, or {SERVER})")
    common.add_argument("--key-file", metavar="FILE", help="file that contains the API key (default: MINDJOBS_KEY)")
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_submit(actions.add_parser("submit", help="queue a job"), common)
    upload = actions.add_parser("upload", parents=[common], help="upload a file for jobs and print its id")
    upload.add_argument("file")
    upload.set_defaults(command=commands.upload)
    uploads = actions.add_parser("uploads", parents=[common], help="list your uploads, newest first")
    _add_limit(uploads)
    uploads.set_defaults(command=commands.list_uploads)
    delete_upload = actions.add_parser("delete-upload", parents=[common], help="delete an upload that no job needs")
    delete_upload.add_argument("upload_id", metavar="ID")
    delete_upload.set_defaults(command=commands.delete_upload)
    _add_list(actions.add_parser("list", parents=[common], help="list jobs, newest first"))
    for name, command, text in (
        ("wait", commands.wait, "follow a job to its end and print its result"),
        ("show", commands.show, "print a job as JSON"),
        ("cancel", commands.cancel, "cancel a job"),
        ("retry", commands.retry, "submit an ended job again and print the id of the new job"),
        ("delete", commands.delete, "delete an ended job and its files"),
        ("download", commands.download, "download the files of a job"),
        ("archive", commands.archive, "download the files of a job in one zip archive"),
    ):
        action = actions.add_parser(name, parents=[common], help=text)
        action.add_argument("job_id", metavar="ID")
        action.set_defaults(command=command)
        if name == "retry":
            action.add_argument("--new-seed", action="store_true", help="with another seed (default: the same seed)")
            _add_idempotency_key(action)
        if name == "archive":
            action.add_argument("--to", metavar="FILE", help="target file (default: ID.zip)")
        if name == "download":
            action.add_argument("names", nargs="*", metavar="NAME", help="files to download (default: all)")
            action.add_argument("--to", default=".", metavar="FOLDER", help="target folder (default: the current one)")
    _add_reproduce(actions.add_parser("reproduce", parents=[common], help="generate the music of a file again"))
    return parser


def _add_reproduce(action: argparse.ArgumentParser) -> None:
    action.description = "Generate the music of a file again from the file's tags, and say whether the codes are equal."
    action.add_argument("file", metavar="FILE", help="a WAV, FLAC, Ogg or MP3 file that mindjobs has made")
    action.add_argument("--clip", metavar="FILE", help="the clip that the music continues, as it was uploaded")
    action.add_argument("--device", choices=["auto", *DeviceClass], help="default: the device class that made the file")
    action.set_defaults(command=commands.reproduce)


def _add_submit(submit: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    shared = argparse.ArgumentParser(add_help=False, parents=[common])
    shared.add_argument(
        "-p",
        "--param",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter; the value is JSON, or text if it is not JSON; the name may be dotted: evaluation.folds=5",
    )
    shared.add_argument("--params", metavar="JSON|@FILE", help="all parameters as one JSON object")
    shared.add_argument("--device", choices=["auto", *DeviceClass])
    shared.add_argument("--priority", type=int, metavar="0…9", help="9 is the most urgent (default: 5)")
    shared.add_argument("--label", action="append", default=[], metavar="NAME=VALUE", help="a label; may be repeated")
    _add_idempotency_key(shared)
    shared.add_argument("--wait", action="store_true", help="follow the job to its end and print its result")
    shared.add_argument("--download", metavar="FOLDER", help="wait, and download the files of the job")
    shared.set_defaults(command=commands.submit)
    kinds = submit.add_subparsers(required=True, dest="kind", metavar="KIND")
    for kind in Kind:
        parser = kinds.add_parser(kind, parents=[shared])
        if kind in _ARGUMENTS:
            _ARGUMENTS[kind](parser)


def _add_idempotency_key(action: argparse.ArgumentParser) -> None:
    action.add_argument("--idempotency-key", metavar="KEY", help="the same key again returns the same job")


def _add_knn_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Evaluate k nearest neighbours on the Wine data or on a table."
    parser.add_argument("--csv", metavar="FILE", help="the table: delimited text, .xlsx, Parquet or ARFF")
    parser.add_argument(
        "--label-column",
        metavar="COLUMN",
        help="the column to predict: its name, or its index from 0 (default: as the service suggests)",
    )
    parser.add_argument(
        "--exclude",
        metavar="COLUMN",
        action="append",
        default=[],
        help="a column to leave out; may be repeated (default: those that the service suggests)",
    )


def _add_musicgen_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Generate music."
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="descriptions; none: unconditional generation")
    parser.add_argument("--clip", dest="clips", action="append", default=[], metavar="FILE", help="audio to continue")


_ARGUMENTS: Final[Mapping[Kind, Callable[[argparse.ArgumentParser], None]]] = {
    Kind.KNN: _add_knn_arguments,
    Kind.MUSICGEN: _add_musicgen_arguments,
}
"""For each kind, the function that adds arguments for the parameters that people set most often.

-p and --params can set every parameter of every kind.
"""


def _add_list(action: argparse.ArgumentParser) -> None:
    action.add_argument("--state", choices=list(State), action="append", help="a state; may be repeated")
    action.add_argument("--kind", choices=list(Kind))
    action.add_argument("--device", choices=list(DeviceClass))
    action.add_argument("--label", action="append", default=[], metavar="NAME=VALUE")
    _add_limit(action)
    action.set_defaults(command=commands.list_jobs)


def _add_limit(action: argparse.ArgumentParser) -> None:
    action.add_argument("--limit", type=_parse_count, default=20, metavar="N", help="maximum number (default: 20)")


def _parse_count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return count


def _report_error(error: Exception) -> Exit:
    """Print what went wrong; if the service reported problems with single fields, print each of these problems."""
    if not isinstance(error, ClientError):
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        commands.print_message(f"mindjobs: {reason}")
        return Exit.REFUSED
    commands.print_message(f"mindjobs: {error.title}")
    for line in [f"{problem.pointer}: {problem.detail}" for problem in error.errors] or [error.detail]:
        commands.print_message(f"  {line}")
    return Exit.UNREACHABLE if error.unreachable else Exit.REFUSED


def main(words: Sequence[str] | None = None) -> Exit:
    """Run the command that the words of a command line name."""
    arguments = _make_parser().parse_args(words)
    try:
        key = Path(arguments.key_file).read_text(encoding="utf-8").strip() if arguments.key_file else None
        with Client(arguments.server, key) as client:
            command: commands.Command = arguments.command
            return command(client, arguments)
    except (ClientError, OSError, ValueError) as error:
        return _report_error(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
