"""Set up an environment, or run uv with the settings of the machine's pip: ``python3 -m shared.installer``."""

import argparse
import sys
from pathlib import Path

from shared.installer.environment import compile_bytecode, set_up
from shared.installer.uv import install_uv

UV_FOLDER = Path(__file__).resolve().parents[2] / ".uv"


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python3 -m shared.installer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    environment = commands.add_parser(
        "environment", help="make a virtual environment and install the packages of a lock file in it"
    )
    environment.add_argument("folder", type=Path, help="where the environment is, or will be")
    environment.add_argument("requirements", type=Path, help="a lock file, or a file whose dependencies are resolved")
    environment.add_argument("--compile", action="store_true", help="compile every module")
    uv = commands.add_parser("uv", help="run uv")
    uv.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def main() -> None:
    """Run the command in the command line."""
    arguments = make_parser().parse_args()
    uv = install_uv(UV_FOLDER)
    if arguments.command == "environment":
        set_up(arguments.folder.absolute(), arguments.requirements.absolute(), uv)
        if arguments.compile:
            compile_bytecode(arguments.folder.absolute())
    elif uv is None:
        sys.exit("mindjobs: uv cannot be installed here: see above.")
    else:
        sys.exit(uv.run(*arguments.arguments))


if __name__ == "__main__":
    main()
