"""The benchmarks write their report only from a clean tree."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.bench import __main__ as command
from tests.bench.section import Section
from tests.bench.source_tree import REPORT, REPORTS, UncleanTreeError, check_tree_clean, describe_commit, list_changes


def run_git(folder: Path, *arguments: str) -> str:
    author = ("-c", "user.name=tests", "-c", "user.email=tests@example.org")
    command_line = ["git", *author, *arguments]
    return subprocess.run(command_line, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    folder = tmp_path / "tree"
    folder.joinpath(REPORT).parent.mkdir(parents=True)
    folder.joinpath(REPORT).write_text("figures\n")
    folder.joinpath("code.py").write_text("")
    run_git(folder, "init", "--quiet")
    run_git(folder, "add", ".")
    run_git(folder, "commit", "--quiet", "--message", "All of it")
    return folder


def test_clean_tree_is_accepted(tree: Path) -> None:
    check_tree_clean(tree)
    assert describe_commit(tree).endswith(f", commit {run_git(tree, 'rev-parse', '--short', 'HEAD')}")


@pytest.mark.parametrize("report", REPORTS)
def test_changed_report_is_accepted(tree: Path, report: str) -> None:
    tree.joinpath(report).write_text("new figures\n")
    check_tree_clean(tree)
    run_git(tree, "add", ".")
    check_tree_clean(tree)


def test_changed_file_is_refused_and_named(tree: Path) -> None:
    tree.joinpath("code.py").write_text("changed = True\n")
    with pytest.raises(UncleanTreeError, match=r"only from a clean tree(.|\n)*\n M code\.py\n"):
        check_tree_clean(tree)
    assert describe_commit(tree).endswith(" with uncommitted changes")


def test_staged_change_is_refused(tree: Path) -> None:
    tree.joinpath("code.py").write_text("changed = True\n")
    run_git(tree, "add", ".")
    with pytest.raises(UncleanTreeError):
        check_tree_clean(tree)


def test_untracked_file_is_refused(tree: Path) -> None:
    tree.joinpath("new.py").write_text("")
    assert list_changes(tree) == ["?? new.py"]
    with pytest.raises(UncleanTreeError):
        check_tree_clean(tree)


def test_ignored_file_is_accepted(tree: Path) -> None:
    tree.joinpath(".git", "info", "exclude").write_text("*.pyc\n")
    tree.joinpath("code.pyc").write_text("")
    check_tree_clean(tree)


def test_folder_without_repository_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("LC_ALL", "C")
    with pytest.raises(UncleanTreeError, match="Git cannot name it here: fatal: not a git repository"):
        check_tree_clean(tmp_path)
    assert describe_commit(tmp_path).endswith(", no commit")


class FakePart:
    """A part of the benchmarks that measures nothing and counts how often it is run."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self) -> Section:
        self.runs += 1
        return Section([], "Figures.")


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> FakePart:
    part = FakePart()
    monkeypatch.setattr(command, "import_part", lambda _: part.run)
    return part


@pytest.fixture
def root(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository that the command uses instead of the real one."""
    monkeypatch.setattr(command, "ROOT", tree)
    monkeypatch.setattr(command, "check_tree_clean", lambda: check_tree_clean(tree))
    return tree


def test_command_writes_the_report_from_a_clean_tree(root: Path, part: FakePart) -> None:
    command.main(["jobs", "--report", str(root / REPORT)])
    assert part.runs == 1
    assert "## jobs\n\n" in root.joinpath(REPORT).read_text()


def test_command_refuses_a_changed_tree_before_it_measures(
    root: Path, part: FakePart, capsys: pytest.CaptureFixture[str]
) -> None:
    root.joinpath("new.py").write_text("")
    with pytest.raises(SystemExit) as exit_info:
        command.main(["jobs", "--report", str(root / REPORT)])
    assert exit_info.value.code == 1
    assert "?? new.py" in capsys.readouterr().err
    assert part.runs == 0
    assert root.joinpath(REPORT).read_text() == "figures\n"


def test_command_refuses_a_tree_that_changed_while_it_measured(
    root: Path, part: FakePart, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> Section:
        root.joinpath("new.py").write_text("")
        return Section([], "Figures.")

    monkeypatch.setattr(part, "run", run)
    with pytest.raises(SystemExit):
        command.main(["jobs", "--report", str(root / REPORT)])
    assert "Figures." in capsys.readouterr().out
    assert root.joinpath(REPORT).read_text() == "figures\n"


def test_another_report_may_be_written_from_a_changed_tree(root: Path, part: FakePart, tmp_path: Path) -> None:
    root.joinpath("new.py").write_text("")
    command.main(["jobs", "--report", str(tmp_path / "trial.md")])
    assert part.runs == 1
    assert "Figures." in tmp_path.joinpath("trial.md").read_text()
