"""Sets up virtual environments with uv, or with pip if uv cannot be installed."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from shared.installer.pip import run_pip
from shared.installer.progress import report

if TYPE_CHECKING:
    from pathlib import Path

    from shared.installer.uv import Uv

PYTHON_VERSIONS = ((3, 11), (3, 12))
PYTHON_RANGE = ">=3.11,<3.13"
MACHINES = ("x86_64", "aarch64")

NO_PYTHON = (
    "mindjobs needs Python 3.11 or 3.12. Install one (Debian 12, Ubuntu 24.04: apt install python3 python3-venv; "
    "Fedora 40: dnf install python3.12), or give the path of another: make PYTHON=/path/to/python3.12 up"
)
NO_VENV = (
    "mindjobs: this Python can neither run pip nor make virtual environments. "
    "Install its venv module (Debian, Ubuntu: apt install python3-venv)."
)


def set_up(folder: Path, requirements: Path, uv: Uv | None) -> None:
    """Make the environment if it does not exist, and install the packages that a file lists.

    Parameters
    ----------
    folder
        The folder of the environment, which may not exist yet.
    requirements
        A lock file, which has a hash for every package file; or a file with another suffix than ``.lock``, for which
        the installer resolves the dependencies.
    uv
        The installed uv; None to install with pip.

    Raises
    ------
    SystemExit
        The environment cannot be set up. The message says what is missing.
    """
    if platform.system() != "Linux" or platform.machine() not in MACHINES:
        # On other systems and machines, the markers in the lock files would exclude every package.
        sys.exit(f"mindjobs runs on Linux, on {' and '.join(MACHINES)}.")
    if uv is not None:
        _install_by_uv(uv, folder, requirements)
    else:
        report("uv cannot be installed here; pip is used instead, which takes several minutes longer")
        _install_by_pip(folder, requirements)


def compile_bytecode(folder: Path) -> None:
    """Compile every module of an environment, and ignore the compiler's warnings.

    A module that is not compiled yet is compiled at its import. Its warnings would then be errors in the tests.
    """
    report(f"compiling the modules of {folder.name} …")
    command = (str(folder / "bin" / "python"), "-W", "ignore", "-m", "compileall", "-qq", "-j", "0")
    subprocess.run([*command, str(folder / "lib")], check=False)  # some packages contain files that do not compile


def _install_by_uv(uv: Uv, folder: Path, requirements: Path) -> None:
    python = str(folder / "bin" / "python")
    if not _is_supported(python):
        # For a range of versions, uv searches the PATH for a suitable Python, and downloads Python if there is none.
        wanted = sys.executable if _is_supported(sys.executable) else PYTHON_RANGE
        if uv.run("venv", "--clear", "--python", wanted, str(folder)) != 0:
            sys.exit(NO_PYTHON)
    report(f"installing {requirements.name} into {folder.name} …")
    command: tuple[str, ...] = ("pip", "sync", "--require-hashes", str(requirements))
    if requirements.suffix != ".lock":
        # With "--project /", uv does not read pyproject.toml: the overrides in that file are for the lock files only.
        command = ("--project", "/", "pip", "install", "--requirement", str(requirements))
    if uv.run(*command, "--python", python, "--only-binary", ":all:") != 0:
        sys.exit(f"mindjobs: uv could not install {requirements.name}: see above.")


def _install_by_pip(folder: Path, requirements: Path) -> None:
    environment_python = str(folder / "bin" / "python")
    if not _is_supported(environment_python, module="pip"):
        python = next(filter(_is_supported, (sys.executable, "python3.12", "python3.11")), None)
        if python is None:
            sys.exit(NO_PYTHON)
        if subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=False).returncode != 0:
            sys.exit(NO_VENV)
    report(f"installing {requirements.name} into {folder.name} …")
    options = ("--no-deps", "--require-hashes") if requirements.suffix == ".lock" else ()
    command = ("install", "--no-compile", "--only-binary", ":all:", *options, "--requirement", str(requirements))
    if run_pip((environment_python, "-m", "pip"), *command) != 0:
        sys.exit(f"mindjobs: pip could not install {requirements.name}: see above.")


def _is_supported(python: str, module: str = "sys") -> bool:
    """Return whether an interpreter runs, has a version that mindjobs supports, and can import a module."""
    if shutil.which(python) is None:
        return False
    program = f"import sys, {module}; sys.exit(sys.version_info[:2] not in {PYTHON_VERSIONS!r})"
    return subprocess.run([python, "-c", program], stderr=subprocess.DEVNULL, check=False).returncode == 0
