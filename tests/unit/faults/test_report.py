"""The document of a campaign."""

from collections import Counter

from tests.faults.record import Record
from tests.faults.report import format_report


def make_record() -> Record:
    record = Record(12, 10_000, 200, position=100, acknowledged=6_000, states=Counter(succeeded=6_000))
    record.recoveries_s = {"kill redis": [1.0, 2.0, 3.0], "drop packets": [10.0]}
    record.parts = ["2026-01-02, commit abc: faults 1 to 100 within 30.0 min"]
    return record


def test_document_has_recoveries_per_fault_and_over_all() -> None:
    text = format_report(make_record())
    assert "| kill redis | 3 | 2.0 | 3.0 | 3.0 |" in text
    assert "| drop packets | 1 | 10.0 | 10.0 | 10.0 |" in text
    assert "| all | 4 | 2.5 | 9.8 | 10.0 |" in text


def test_document_says_how_much_is_done() -> None:
    record = make_record()
    assert "| done | 50% |" in format_report(record)
    record.position, record.acknowledged = 200, 10_000
    assert "| done | all |" in format_report(record)


def test_document_names_parts_skipped_faults_and_problems_only_if_there_are_any() -> None:
    record = make_record()
    text = format_report(record)
    assert "- 2026-01-02, commit abc" in text
    assert "## Skipped" not in text
    assert "## Problems" not in text
    record.skipped["fill disk"] = "not root"
    record.problems.append("job x is lost")
    text = format_report(record)
    assert "## Skipped\n\n- fill disk: not root" in text
    assert "## Problems\n\n- job x is lost" in text


def test_document_of_a_campaign_that_has_injected_nothing_has_no_table_of_recoveries() -> None:
    assert "| fault |" not in format_report(Record(0, 10, 1))
