"""Hand jobs to mindjobs, follow them and fetch what they make: ``python -m shared.client``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from shared.client import commands
from shared.client.api import SERVER, Client
from shared.client.commands import Exit
from shared.client.errors import ClientError
from shared.jobs import DeviceClass, Kind, State

_EPILOG = (
    "MINDJOBS_SERVER and MINDJOBS_KEY stand for the server and the key. Exit status: 0 done; 1 the job failed or was "
    "cancelled; 2 the request was refused or makes no sense; 3 the server cannot be reached."
)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shared.client", description=__doc__.replace("``", ""), epilog=_EPILOG
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--server", help=f"address of the service (MINDJOBS_SERVER; else {SERVER})")
    common.add_argument("--key-file", metavar="FILE", help="file that holds the key (else MINDJOBS_KEY)")
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_submit(actions.add_parser("submit", help="queue a job"), common)
    upload = actions.add_parser("upload", parents=[common], help="store a file for jobs and print its id")
    upload.add_argument("file")
    upload.set_defaults(act=commands.upload)
    _add_list(actions.add_parser("list", parents=[common], help="list jobs, newest first"))
    for name, act, text in (
        ("wait", commands.wait, "follow a job to its end and print its result"),
        ("show", commands.show, "print a job as JSON"),
        ("cancel", commands.cancel, "cancel a job"),
        ("retry", commands.retry, "queue an ended job again and print the new one's id"),
        ("delete", commands.delete, "forget an ended job and its files"),
        ("download", commands.download, "fetch a job's files"),
    ):
        action = actions.add_parser(name, parents=[common], help=text)
        action.add_argument("job_id", metavar="ID")
        action.set_defaults(act=act)
        if name == "download":
            action.add_argument("names", nargs="*", metavar="NAME", help="the files to fetch; else all")
            action.add_argument("--to", default=".", metavar="FOLDER", help="where to; else here")
    return parser


def _add_submit(submit: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    shared = argparse.ArgumentParser(add_help=False, parents=[common])
    shared.add_argument(
        "-p",
        "--param",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter; the value is JSON or else text, the name may be dotted: evaluation.folds=5",
    )
    shared.add_argument("--params", metavar="JSON|@FILE", help="parameters as one JSON object")
    shared.add_argument("--device", choices=["auto", *DeviceClass])
    shared.add_argument("--priority", type=int, metavar="0…9", help="9 goes first; else 5")
    shared.add_argument("--label", action="append", default=[], metavar="NAME=VALUE", help="to find the job by")
    shared.add_argument("--idempotency-key", metavar="KEY", help="the same key again gives the same job")
    shared.add_argument("--wait", action="store_true", help="follow the job to its end and print its result")
    shared.add_argument("--download", metavar="FOLDER", help="wait, and fetch the job's files")
    shared.set_defaults(act=commands.submit)
    kinds = submit.add_subparsers(required=True, dest="kind", metavar="KIND")
    knn = kinds.add_parser(Kind.KNN, parents=[shared], help="evaluate nearest neighbours, on Wine or on a table")
    knn.add_argument("--csv", metavar="FILE", help="the table")
    knn.add_argument("--label-column", metavar="COLUMN", help="what to predict: a column's name, or its number from 0")
    music = kinds.add_parser(Kind.MUSICGEN, parents=[shared], help="generate music")
    music.add_argument("prompts", nargs="*", metavar="PROMPT", help="a text each; none for music from nothing")
    music.add_argument("--clip", dest="clips", action="append", default=[], metavar="FILE", help="audio to continue")


def _add_list(action: argparse.ArgumentParser) -> None:
    action.add_argument("--state", choices=list(State))
    action.add_argument("--kind", choices=list(Kind))
    action.add_argument("--device", choices=list(DeviceClass))
    action.add_argument("--label", action="append", default=[], metavar="NAME=VALUE")
    action.add_argument("--limit", type=_read_count, default=20, metavar="N", help="at most so many; else 20")
    action.set_defaults(act=commands.list_jobs)


def _read_count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return count


def _complain(error: Exception) -> Exit:
    """Say what went wrong, field by field where the service said it so."""
    if not isinstance(error, ClientError):
        about = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        commands.tell(f"mindjobs: {about}")
        return Exit.REFUSED
    commands.tell(f"mindjobs: {error.title}")
    for line in [f"{problem.pointer}: {problem.detail}" for problem in error.errors] or [error.detail]:
        commands.tell(f"  {line}")
    return Exit.UNREACHABLE if error.unreachable else Exit.REFUSED


def main(words: Sequence[str] | None = None) -> Exit:
    """Do what the words ask for."""
    given = _make_parser().parse_args(words)
    try:
        key = Path(given.key_file).read_text(encoding="utf-8").strip() if given.key_file else None
        with Client(given.server, key) as client:
            act: commands.Command = given.act
            return act(client, given)
    except (ClientError, OSError, ValueError) as error:
        return _complain(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
