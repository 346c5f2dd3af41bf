"""The command of a campaign writes its document only from a clean tree, and goes on with the kept campaign only."""

from pathlib import Path

import pytest

from tests.bench.source_tree import FAULTS_REPORT, UncleanTreeError
from tests.faults import __main__ as command
from tests.faults.record import Record


def refuse(report: str) -> None:
    raise UncleanTreeError(f"{report} is written only from a clean tree")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """The records with which a part was begun; a part does nothing."""
    begun: list[Record] = []

    def run_part(record: Record, *_arguments: object) -> None:
        begun.append(record)
        record.position, record.acknowledged = record.faults, record.jobs

    monkeypatch.setattr(command, "run_part", run_part)
    return begun


def test_changed_tree_is_refused_before_the_part(
    parts: list[Record], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "check_tree_clean", refuse)
    with pytest.raises(SystemExit) as exit_info:
        command.main(["--folder", str(tmp_path)])
    assert exit_info.value.code == 1
    assert f"{FAULTS_REPORT} is written only from a clean tree" in capsys.readouterr().err
    assert parts == []


def test_campaign_is_kept_and_not_begun_again(parts: list[Record], tmp_path: Path) -> None:
    arguments = ["--folder", str(tmp_path), "--report", str(tmp_path / "report.md"), "--jobs", "10", "--faults", "1"]
    assert command.main(arguments) == 0
    assert "| done | all |" in (tmp_path / "report.md").read_text()
    assert command.main(arguments) == 0
    assert len(parts) == 1


def test_another_campaign_in_the_same_folder_is_refused(
    parts: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--folder", str(tmp_path), "--report", str(tmp_path / "report.md"), "--jobs", "10", "--faults", "1"]
    command.main(arguments)
    with pytest.raises(SystemExit):
        command.main([*arguments, "--seed", "7"])
    assert "belongs to the campaign --seed 0" in capsys.readouterr().err
    assert len(parts) == 1
