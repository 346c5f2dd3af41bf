"""The source tree that is measured: its commit, and whether it has uncommitted changes."""

import datetime as dt
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
REPORT: Final = "docs/benchmarks.md"
FAULTS_REPORT: Final = "docs/faults.md"
REPORTS: Final = (REPORT, FAULTS_REPORT)
"""The only files that measurements change. A tree in which only these have changed counts as clean."""


class UncleanTreeError(Exception):
    """The source tree has changes or is no Git repository, so that figures could not be attributed to a commit."""


def describe_commit(root: Path = ROOT) -> str:
    """Return a text with the date and the commit that is measured."""
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    try:
        commit = _run_git(root, "rev-parse", "--short", "HEAD")
        changes = list_changes(root)
    except (OSError, subprocess.CalledProcessError):
        return f"{today}, no commit"
    return f"{today}, commit {commit}{' with uncommitted changes' if changes else ''}"


def check_tree_clean(root: Path = ROOT, report: str = REPORT) -> None:
    """Refuse a tree whose figures could not be attributed to a commit.

    Parameters
    ----------
    report
        The report that would contain the figures, for the message.

    Raises
    ------
    UncleanTreeError
        The tree has changes, or there is no Git repository. The message lists the changed and the untracked files, or
        says why Git failed.
    """
    try:
        changes = list_changes(root)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else error
        raise UncleanTreeError(
            f"{report} names the commit that was measured, and Git cannot name it here: {reason}"
        ) from error
    if changes:
        listed = "\n".join(changes)
        raise UncleanTreeError(
            f"{report} is written only from a clean tree, so that its figures belong to a commit. Commit or remove "
            f"first:\n{listed}\nTo measure with these changes, write the report to another file: "
            "--report FILE."
        )


def list_changes(root: Path = ROOT) -> list[str]:
    """List the changed and the untracked files, except the reports, as lines of ``git status --porcelain``."""
    return _run_git(root, "status", "--porcelain", "--", ".", *(f":!{report}" for report in REPORTS)).splitlines()


def _run_git(root: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.rstrip()
