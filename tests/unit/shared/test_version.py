"""The version that files state is the version of the project."""

import tomllib

from shared.database.migrate import ROOT
from shared.version import VERSION


def test_the_version_is_that_of_the_project() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
