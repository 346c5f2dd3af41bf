"""The installer. It installs wheels that the tests make, and uses no package index."""

import hashlib
import os
import platform
import stat
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from shared.installer.environment import NO_PYTHON, compile_bytecode, set_up
from shared.installer.uv import Uv, install_uv

needs_ensurepip = pytest.mark.skipif(find_spec("ensurepip") is None, reason="this Python has no module venv")


def make_wheel(folder: Path, name: str, files: Mapping[str, str]) -> Path:
    """Make a wheel of version 1.0 of a package, and return the path of a lock file that lists the wheel."""
    folder.mkdir(exist_ok=True)
    information = f"{name}-1.0.dist-info"
    contents = {
        **files,
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*contents, f"{information}/RECORD"))
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, text in {**contents, f"{information}/RECORD": record}.items():
            entry = zipfile.ZipInfo(file)
            entry.external_attr = (stat.S_IFREG | 0o755) << 16
            archive.writestr(entry, text)
    lock = folder / f"{name}.lock"
    lock.write_text(f"{name}==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    return lock


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only place from which pip and uv install packages."""
    for variable in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(variable)
    folder = tmp_path / "wheels"
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The path of an environment that does not exist yet."""
    return tmp_path / "environment"


def make_uv(folder: Path, script: str) -> Uv:
    """Make a shell script that runs instead of uv."""
    program = folder / "uv"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Uv(program, {})


def run_python(environment: Path, *arguments: str) -> str:
    command = [str(environment / "bin" / "python"), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


@needs_ensurepip
def test_uv_is_installed_once(wheels: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = '#!/bin/sh\necho "$* $UV_NO_INDEX $UV_FIND_LINKS $UV_INDEX_STRATEGY"\n'
    lock = make_wheel(wheels, "uv", {"uv-1.0.data/scripts/uv": script})
    for _ in range(2):
        uv = install_uv(tmp_path / "uv", lock)
        assert uv is not None
        assert uv.run("pip", "sync") == 0
    output, errors = capfd.readouterr()
    assert output == f"pip sync 1 {wheels} unsafe-best-match\n" * 2
    assert errors.count("installing uv") == 1

    lock.write_text(lock.read_text().replace("1.0", "2.0"))  # a version that the folder of wheels does not have
    assert install_uv(tmp_path / "uv", lock) is None


@needs_ensurepip
def test_pip_installs_packages_and_verifies_hashes_if_there_is_no_uv(
    wheels: Path, environment: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        set_up(environment, make_wheel(wheels, name, {f"{name}.py": ""}), None)
    assert run_python(environment, "-c", "import one, two") == ""
    assert "pip is used instead" in capfd.readouterr().err

    lock = make_wheel(wheels, "three", {"three.py": ""})
    expected = lock.read_text()
    make_wheel(wheels, "three", {"three.py": "another = True"})
    lock.write_text(expected)
    with pytest.raises(SystemExit, match=r"could not install three\.lock"):
        set_up(environment, lock, None)


def test_uv_creates_the_environment_and_installs_packages(tmp_path: Path, environment: Path) -> None:
    calls = tmp_path / "calls"
    make_environment = f'[ "$1" != venv ] || exec "{sys.executable}" -m venv --without-pip "{environment}"'
    uv = make_uv(tmp_path, f'echo "$*" >> "{calls}"\n{make_environment}')
    lock, peers = tmp_path / "run.lock", tmp_path / "peers.txt"
    set_up(environment, lock, uv)
    set_up(environment, peers, uv)
    python = f"--python {environment}/bin/python --only-binary :all:"
    assert calls.read_text().splitlines() == [
        f"venv --clear --python {sys.executable} {environment}",
        f"pip sync --require-hashes {lock} {python}",
        f"--project / pip install --requirement {peers} {python}",
    ]


def test_missing_python_is_reported(tmp_path: Path, environment: Path) -> None:
    with pytest.raises(SystemExit) as refusal:
        set_up(environment, tmp_path / "run.lock", make_uv(tmp_path, "exit 2"))
    assert refusal.value.code == NO_PYTHON


def test_failed_installation_by_uv_is_reported(tmp_path: Path, environment: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    with pytest.raises(SystemExit, match=r"could not install run\.lock"):
        set_up(environment, tmp_path / "run.lock", make_uv(tmp_path, "exit 2"))


def test_unsupported_machine_is_reported(tmp_path: Path, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "ppc64le")
    with pytest.raises(SystemExit, match="x86_64 and aarch64"):
        set_up(environment, tmp_path / "run.lock", None)


def test_import_of_a_compiled_module_gives_no_warning(environment: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    packages = Path(run_python(environment, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
    (packages / "doubtful.py").write_text("value = '\\d'\n")
    compile_bytecode(environment)
    assert run_python(environment, "-W", "error", "-c", "import doubtful; print(doubtful.value)") == "\\d"
