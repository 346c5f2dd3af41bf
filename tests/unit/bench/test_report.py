"""How the benchmarks format their results."""

from typing import Final

import numpy as np
import pytest

from tests.bench.document import HEAD, replace_section
from tests.bench.logits import LogitDifference
from tests.bench.section import REPEATS_VARIABLE, Ratio, Section, format_table, read_repeats
from tests.bench.workload import STEPS, TIMED_POSITIONS, average_over_positions, find_start

ORDER: Final = ("first", "second", "third")


def test_ratio_is_compared_with_its_aim() -> None:
    assert Ratio("a / b", 2.0, 2.0).met is True
    assert Ratio("a / b", 1.9, 2.0).met is False
    assert Ratio("a / b", 2.0, 2.0, is_upper_bound=True).met is True
    assert Ratio("a / b", 2.1, 2.0, is_upper_bound=True).met is False
    assert Ratio("a / b", 2.1).met is None


def test_section_starts_with_its_ratios() -> None:
    section = Section(
        [Ratio("a / b", 2.125, 1.8), Ratio("c", 0.2, 0.1, is_upper_bound=True), Ratio("d", 0.0123)], "The rest."
    )
    assert section.format() == (
        "| ratio | value | aim | met |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| a / b | 2.12 | at least 1.8 | yes |\n"
        "| c | 0.20 | at most 0.1 | **no** |\n"
        "| d | 0.012 | - | - |\n"
        "\n"
        "The rest."
    )


def test_sections_are_joined_into_one() -> None:
    joined = Section.join((Section([Ratio("a", 1.0)], "A."), Section([], ""), Section([Ratio("b", 2.0)], "B.")), "so")
    assert joined == Section([Ratio("a", 1.0), Ratio("b", 2.0)], "A.\n\nB.", "so")


def test_section_may_have_no_ratios() -> None:
    assert Section([], "The rest.").format() == "The rest."


def test_table_without_rows_is_empty() -> None:
    assert not format_table(["", "a"], [])


def test_report_starts_with_the_command_that_writes_the_report() -> None:
    assert replace_section("", "first", "One.", ORDER) == f"{HEAD}\n## first\n\nOne.\n"
    assert "make bench" in HEAD


def test_only_the_measured_section_changes() -> None:
    first, third = "## first\n\n| a |\n| --- |\n\n### deeper\n\n  kept  \n", "## third\n\nThree.\n"
    before = f"{HEAD}\n{first}\n## second\n\nold\n\n{third}"
    after = replace_section(before, "second", "new", ORDER)
    assert after == f"{HEAD}\n{first}\n## second\n\nnew\n\n{third}"


def test_new_section_is_inserted_in_the_order_of_the_titles() -> None:
    document = replace_section("", "third", "Three.", ORDER)
    document = replace_section(document, "first", "One.", ORDER)
    document = replace_section(document, "second", "Two.", ORDER)
    assert document == f"{HEAD}\n## first\n\nOne.\n\n## second\n\nTwo.\n\n## third\n\nThree.\n"


def test_section_with_an_unknown_title_is_kept() -> None:
    document = replace_section(f"{HEAD}\n## other\n\nKept.\n", "first", "One.", ORDER)
    assert document == f"{HEAD}\n## first\n\nOne.\n\n## other\n\nKept.\n"


def test_average_over_positions_uses_the_trapezoidal_rule() -> None:
    assert average_over_positions({0: 1.0, 10: 3.0}) == 2.0
    assert average_over_positions({0: 1.0, 10: 1.0, 40: 5.0}) == 2.5
    assert average_over_positions({40: 5.0, 0: 1.0, 10: 1.0}) == 2.5


def test_timed_steps_are_centred_on_the_position() -> None:
    for position in TIMED_POSITIONS[1:]:
        timed = range(find_start(position) + 1, find_start(position) + 1 + STEPS)
        assert (timed[0] + timed[-1]) / 2 == position
    assert find_start(0) == 0


def test_difference_of_logits_is_relative() -> None:
    exact = np.array([[3.0, 4.0], [-4.0, 3.0]], dtype=np.float32)
    assert LogitDifference.measure(exact, exact) == LogitDifference(0.0, 1.0)
    assert LogitDifference.measure(exact * np.float32(1.5), exact) == LogitDifference(0.5, 1.0)
    assert LogitDifference.measure(exact[:, ::-1], exact).equal_tokens == 0.0


def test_differences_of_logits_are_averaged() -> None:
    assert LogitDifference.average([LogitDifference(0.25, 1.0), LogitDifference(0.75, 0.5)]) == LogitDifference(
        0.5, 0.75
    )


def test_number_of_repeats_is_the_default_unless_the_variable_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REPEATS_VARIABLE, raising=False)
    assert read_repeats(5) == 5
    monkeypatch.setenv(REPEATS_VARIABLE, "2")
    assert read_repeats(5) == 2
