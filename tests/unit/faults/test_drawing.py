"""The faults of a campaign are drawn from its seed."""

from collections import Counter

import pytest

from tests.faults.kinds import FAULTS, draw_faults


def test_same_seed_draws_the_same_faults_and_another_seed_draws_others() -> None:
    assert draw_faults(12, 200) == draw_faults(12, 200)
    assert draw_faults(12, 200) != draw_faults(13, 200)


def test_shorter_campaign_begins_like_a_longer_one() -> None:
    assert draw_faults(12, 50) == draw_faults(12, 200)[:50]


@pytest.mark.parametrize("rounds", [1, 3])
def test_each_round_has_every_fault_once(rounds: int) -> None:
    drawn = draw_faults(12, rounds * len(FAULTS))
    assert Counter(fault.name for fault in drawn) == {fault.name: rounds for fault in FAULTS}


def test_faults_of_a_remote_instance_follow_each_other() -> None:
    remote = [fault.is_remote for fault in draw_faults(12, len(FAULTS))]
    assert remote == sorted(remote)
