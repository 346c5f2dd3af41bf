"""The record of a campaign is kept between its parts."""

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.record import OtherCampaignError, Record


def test_record_is_the_same_after_it_was_kept(tmp_path: Path) -> None:
    record = Record(12, 10_000, 200, position=3, acknowledged=150, states=Counter(succeeded=150))
    record.recoveries_s["kill redis"] = [1.5]
    path = tmp_path / "faults" / "STATE.json"
    record.save(path)
    loaded = Record.load(path, 12, 10_000, 200)
    assert loaded == record
    loaded.states += Counter(succeeded=1)
    assert loaded.states["succeeded"] == 151


def test_new_campaign_begins_without_a_file(tmp_path: Path) -> None:
    assert Record.load(tmp_path / "STATE.json", 12, 100, 2) == Record(12, 100, 2)


@pytest.mark.parametrize("other", [(13, 100, 2), (12, 101, 2), (12, 100, 3)])
def test_record_of_another_campaign_is_refused_and_says_what_to_do(tmp_path: Path, other: tuple[int, int, int]) -> None:
    path = tmp_path / "STATE.json"
    Record(12, 100, 2).save(path)
    with pytest.raises(OtherCampaignError, match=r"--seed 12 --jobs 100 --faults 2.*remove the file"):
        Record.load(path, *other)


def test_campaign_is_complete_after_all_faults_and_all_jobs() -> None:
    assert not Record(0, 100, 2, position=1, acknowledged=100).is_complete
    assert not Record(0, 100, 2, position=2, acknowledged=99).is_complete
    assert Record(0, 100, 2, position=2, acknowledged=100).is_complete
