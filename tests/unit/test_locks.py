"""The lock files agree with pyproject.toml and with each other."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from shared.database.migrate import ROOT
from shared.installer.environment import MACHINES, PYTHON_RANGE, PYTHON_VERSIONS
from shared.installer.uv import LOCK

GROUPS = ("dev", "run", "web", "worker")
ENTRY = re.compile(r"(\S+)==(\S+)(?: ; (.+?))?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


class Pin(NamedTuple):
    """An entry of a lock file."""

    version: str
    marker: str
    hashes: frozenset[str]

    def applies_to(self, python: tuple[int, int], machine: str) -> bool:
        version = ".".join(map(str, python))
        values = {"python_version": version, "python_full_version": f"{version}.9", "platform_machine": machine}
        return not self.marker or Marker(self.marker).evaluate({**values, "sys_platform": "linux"})


def read_lock(group: str) -> dict[str, Pin]:
    text = (ROOT / f"{group}.lock").read_text()
    assert ENTRY.sub("", text) == "", "something else than versions and hashes"
    return {
        name: Pin(version, marker, frozenset(hashes.split())) for name, version, marker, hashes in ENTRY.findall(text)
    }


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def locks() -> dict[str, dict[str, Pin]]:
    return {group: read_lock(group) for group in GROUPS}


def list_requirements(project: dict[str, Any], group: str) -> Iterator[Requirement]:
    for entry in project["dependency-groups"][group]:
        if isinstance(entry, dict):
            yield from list_requirements(project, entry["include-group"])
        else:
            yield Requirement(entry)


@pytest.mark.parametrize("group", GROUPS)
def test_lock_file_meets_the_requirements_of_its_group(
    group: str, project: dict[str, Any], locks: dict[str, dict[str, Pin]]
) -> None:
    asked = [*map(Requirement, project["project"]["dependencies"]), *list_requirements(project, group)]
    for requirement in asked:
        pin = locks[group][canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin.version), requirement


def test_all_lock_files_come_from_one_resolution(locks: dict[str, dict[str, Pin]]) -> None:
    # Markers are not compared: they differ if, on some machines, only one of the groups needs a package.
    files = {group: {(name, pin.version, pin.hashes) for name, pin in locks[group].items()} for group in GROUPS}
    assert files["run"] == files["web"] | files["worker"]
    assert files["run"] < files["dev"]


def test_run_lock_contains_no_development_tools(locks: dict[str, dict[str, Pin]]) -> None:
    # pytest is not in this list: the run lock contains it, because mindnlp requires it.
    tools = {"mypy", "pgserver", "playwright", "ruff", "schemathesis", "scikit-learn"}
    assert tools <= set(locks["dev"])
    assert tools.isdisjoint(locks["run"])


@pytest.mark.parametrize("python", PYTHON_VERSIONS)
@pytest.mark.parametrize("machine", MACHINES)
def test_run_lock_applies_to_every_python_version_and_machine(
    python: tuple[int, int], machine: str, locks: dict[str, dict[str, Pin]]
) -> None:
    left_out = {name for name, pin in locks["run"].items() if not pin.applies_to(python, machine)}
    allowed = {"async-timeout"}  # needed only by the first releases of Python 3.11
    assert left_out <= allowed


@pytest.mark.long
def test_every_lock_file_can_be_installed_from_wheels_on_every_python_version_and_machine() -> None:
    command = ["make", "--no-print-directory", "check-locks", f"PYTHON={sys.executable}"]
    checked = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    for group in GROUPS:
        for machine in MACHINES:
            for major, minor in PYTHON_VERSIONS:
                line = rf"^{group}\.lock can be installed on {machine}-\S+ with Python {major}\.{minor}$"
                assert re.search(line, checked, flags=re.MULTILINE), checked


def test_installer_supports_the_python_versions_of_the_project(project: dict[str, Any]) -> None:
    assert project["project"]["requires-python"] == PYTHON_RANGE
    supported = SpecifierSet(PYTHON_RANGE)
    assert [(3, minor) for minor in range(20) if f"3.{minor}" in supported] == list(PYTHON_VERSIONS)


def test_lock_of_uv_applies_to_every_python_version() -> None:
    ((name, _, marker, _),) = ENTRY.findall(LOCK.read_text())
    assert (name, marker) == ("uv", "")
