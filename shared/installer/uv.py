"""Installs uv with pip into a folder of its own, and runs uv, which downloads and unpacks packages in parallel."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Mapping, NamedTuple

from shared.installer.pip import convert_to_uv, read_settings, run_pip
from shared.installer.progress import report

LOCK = Path(__file__).with_name("bootstrap.lock")


class Uv(NamedTuple):
    """An installed uv.

    Parameters
    ----------
    program
        The path of uv's executable.
    variables
        The settings of the machine's pip, as variables for uv.
    """

    program: Path
    variables: Mapping[str, str]

    def run(self, *arguments: str) -> int:
        """Run uv and return its exit status."""
        # pip takes the best version from all indexes, and with this strategy uv does the same. By default, uv would use
        # only the first index that has the package in any version.
        environment = {"UV_INDEX_STRATEGY": "unsafe-best-match", **os.environ, **self.variables}
        return subprocess.run([str(self.program), *arguments], env=environment, check=False).returncode


def install_uv(folder: Path, lock: Path = LOCK) -> Uv | None:
    """Install uv into a folder, unless the folder already contains the locked version.

    Returns
    -------
    The installed uv. None if uv cannot be installed, because there is no pip, no wheel for this machine, or no uv on
    the index.
    """
    pip: tuple[str, ...] = (sys.executable, "-m", "pip")
    target: tuple[str, ...] = ("--target", str(folder))
    if find_spec("pip") is None:  # Debian's Python has pip only in virtual environments
        pip, target = (str(folder / "bin" / "python"), "-m", "pip"), ()
        if not Path(pip[0]).exists() and not _make_environment(folder):
            return None
    stamp = folder / "installed.lock"
    if not stamp.is_file() or stamp.read_text() != lock.read_text():
        report(f"installing uv into {folder.name} …")
        options = ("--quiet", "--upgrade", "--no-deps", "--require-hashes", "--only-binary", ":all:")
        if run_pip(pip, "install", *options, *target, "--requirement", str(lock)) != 0:
            return None
        stamp.write_text(lock.read_text())
    return Uv(folder / "bin" / "uv", convert_to_uv(read_settings(pip), os.environ))


def _make_environment(folder: Path) -> bool:
    return subprocess.run([sys.executable, "-m", "venv", str(folder)], check=False).returncode == 0
