"""How the bench writes what it has measured."""

from typing import Final

import numpy as np
import pytest

from tests.bench.document import HEAD, replace_section
from tests.bench.logits import Distance
from tests.bench.positions import PLACES, STEPS, average, find_start
from tests.bench.section import REPEATS_VARIABLE, Ratio, Section, count_repeats, write_table

ORDER: Final = ("first", "second", "third")


def test_a_ratio_is_held_against_its_aim() -> None:
    assert Ratio("a / b", 2.0, 2.0).met is True
    assert Ratio("a / b", 1.9, 2.0).met is False
    assert Ratio("a / b", 2.0, 2.0, is_upper_bound=True).met is True
    assert Ratio("a / b", 2.1, 2.0, is_upper_bound=True).met is False
    assert Ratio("a / b", 2.1).met is None


def test_ratios_come_first() -> None:
    section = Section(
        [Ratio("a / b", 2.125, 1.8), Ratio("c", 0.2, 0.1, is_upper_bound=True), Ratio("d", 0.0123)], "The rest."
    )
    assert section.write() == (
        "| ratio | value | aim | met |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| a / b | 2.12 | at least 1.8 | yes |\n"
        "| c | 0.20 | at most 0.1 | **no** |\n"
        "| d | 0.012 | - | - |\n"
        "\n"
        "The rest."
    )


def test_sections_are_joined() -> None:
    joined = Section.join((Section([Ratio("a", 1.0)], "A."), Section([], ""), Section([Ratio("b", 2.0)], "B.")), "so")
    assert joined == Section([Ratio("a", 1.0), Ratio("b", 2.0)], "A.\n\nB.", "so")


def test_a_section_may_have_no_ratios() -> None:
    assert Section([], "The rest.").write() == "The rest."


def test_a_table_without_rows_is_nothing() -> None:
    assert not write_table(["", "a"], [])


def test_a_report_begins_with_who_writes_it() -> None:
    assert replace_section("", "first", "One.", ORDER) == f"{HEAD}\n## first\n\nOne.\n"
    assert "make bench" in HEAD


def test_only_the_section_that_was_measured_changes() -> None:
    first, third = "## first\n\n| a |\n| --- |\n\n### deeper\n\n  kept  \n", "## third\n\nThree.\n"
    before = f"{HEAD}\n{first}\n## second\n\nold\n\n{third}"
    after = replace_section(before, "second", "new", ORDER)
    assert after == f"{HEAD}\n{first}\n## second\n\nnew\n\n{third}"


def test_a_new_section_goes_to_its_place() -> None:
    document = replace_section("", "third", "Three.", ORDER)
    document = replace_section(document, "first", "One.", ORDER)
    document = replace_section(document, "second", "Two.", ORDER)
    assert document == f"{HEAD}\n## first\n\nOne.\n\n## second\n\nTwo.\n\n## third\n\nThree.\n"


def test_a_section_that_nobody_knows_is_kept() -> None:
    document = replace_section(f"{HEAD}\n## other\n\nKept.\n", "first", "One.", ORDER)
    assert document == f"{HEAD}\n## first\n\nOne.\n\n## other\n\nKept.\n"


def test_an_average_is_by_trapezoids() -> None:
    assert average({0: 1.0, 10: 3.0}) == 2.0
    assert average({0: 1.0, 10: 1.0, 40: 5.0}) == 2.5
    assert average({40: 5.0, 0: 1.0, 10: 1.0}) == 2.5


def test_steps_lie_around_their_place() -> None:
    for place in PLACES[1:]:
        timed = range(find_start(place) + 1, find_start(place) + 1 + STEPS)
        assert (timed[0] + timed[-1]) / 2 == place
    assert find_start(0) == 0


def test_the_distance_of_logits() -> None:
    exact = np.array([[3.0, 4.0], [-4.0, 3.0]], dtype=np.float32)
    assert Distance.measure(exact, exact) == Distance(0.0, 1.0)
    assert Distance.measure(exact * np.float32(1.5), exact) == Distance(0.5, 1.0)
    assert Distance.measure(exact[:, ::-1], exact).equal == 0.0


def test_distances_are_averaged() -> None:
    assert Distance.average([Distance(0.25, 1.0), Distance(0.75, 0.5)]) == Distance(0.5, 0.75)


def test_repeats_are_as_usual_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REPEATS_VARIABLE, raising=False)
    assert count_repeats(5) == 5
    monkeypatch.setenv(REPEATS_VARIABLE, "2")
    assert count_repeats(5) == 2
