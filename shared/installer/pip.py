"""Runs pip, and converts pip's settings to variables for uv, which does not read pip's files and variables."""

from __future__ import annotations

import ast
import os
import subprocess
from typing import Mapping, Sequence

# Override the user's own defaults, which could prevent pip from installing into a given folder.
ENVIRONMENT: Mapping[str, str] = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_USER": "0",
}

# In each row: pip's name of the setting; uv's variable, for some settings followed by an older variable that uv also
# reads; the separator between several values.
VARIABLES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("index-url", ("UV_DEFAULT_INDEX", "UV_INDEX_URL"), " "),
    ("extra-index-url", ("UV_INDEX", "UV_EXTRA_INDEX_URL"), " "),
    ("find-links", ("UV_FIND_LINKS",), ","),
    ("no-index", ("UV_NO_INDEX",), " "),
    ("trusted-host", ("UV_INSECURE_HOST",), " "),
    ("cert", ("SSL_CERT_FILE",), " "),
    ("client-cert", ("SSL_CLIENT_CERT",), " "),
    ("proxy", ("ALL_PROXY",), " "),
    ("default-timeout", ("UV_HTTP_TIMEOUT",), " "),
    ("timeout", ("UV_HTTP_TIMEOUT",), " "),
)


def run_pip(pip: Sequence[str], *arguments: str) -> int:
    """Run pip and return its exit status.

    Parameters
    ----------
    pip
        The command line that runs pip.
    """
    return subprocess.run([*pip, *arguments], env={**os.environ, **ENVIRONMENT}, check=False).returncode


def read_settings(pip: Sequence[str]) -> dict[str, str]:
    """Return pip's settings, which pip reads from its files and from the environment."""
    listing = subprocess.run([*pip, "config", "list"], stdout=subprocess.PIPE, check=False).stdout.decode()
    settings: dict[str, str] = {}
    # The section of the command "install" overrides the section "global", and the environment overrides both sections.
    for section in ("global.", "install.", ":env:."):
        for line in listing.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(section):
                settings[name[len(section) :]] = str(ast.literal_eval(value))
    return settings


def convert_to_uv(settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Convert pip's settings to the variables that uv reads, without variables that the environment already sets."""
    variables: dict[str, str] = {}
    for name, known, separator in VARIABLES:
        values = settings.get(name, "").split()
        if values and not any(variable in environment for variable in known):
            variables[known[0]] = separator.join(values)
    return variables
