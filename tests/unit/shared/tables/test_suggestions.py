"""What is suggested as the label, as the task, and to be left out."""

from pathlib import Path

import pytest

from tests.unit.shared.tables.reading_files import codes, excluded, inspect, label


def tabulate(*columns: str, rows: int = 40) -> str:
    """Write a table; each column is its name and an expression of ``n``, the number of the row."""
    names, values = zip(*(column.split("=", 1) for column in columns), strict=True)
    lines = [",".join(str(eval(value, {"n": n})) for value in values) for n in range(rows)]  # noqa: S307 - the test's own
    return "\n".join([",".join(names), *lines])


@pytest.mark.parametrize(
    ("columns", "suggested"),
    [
        (["class=n%3", "age=n%7", "survived='ab'[n%2]"], ("survived", "classification")),
        (["Species='abc'[n%3]", "x=n*1.5", "sex='mf'[n%2]"], ("Species", "classification")),
        (["speed=n//2", "dist=n*n%31+.5"], ("dist", "regression")),
        (["mpg=n*1.5", "cyl=n%3", "carb=n%4"], ("mpg", "regression")),
        (["cut='abcd'[n%4]", "price=n*7", "x=n*.5", "y=n*.25", "z=n*.75"], ("price", "regression")),
        (["x=n*.5", "y='ab'[n%2]"], ("y", "classification")),
        (["x=n*.5", "y=n*.25", "class='ab'[n%2]"], ("class", "classification")),
        (["id=n", "x=n*.5", "y=n*.25"], ("y", "regression")),
        (["x=n*.5", "y='ab'[n%2]", "weight=n*.25"], ("y", "classification")),
        (["bill=n*.5", "smoker='ny'[n%2]", "size=n%5"], ("smoker", "classification")),
        (["date='2024-01-%02d'%(n%28+1)", "rain=n*.5", "weather='abc'[n%3]"], ("weather", "classification")),
        (["ozone=n*.5", "temp=n+70", "month=n%12", "day=n%31"], ("temp", "regression")),
        (["obs=n+1", "gpa=n*.5", "grade=n%2"], ("grade", "classification")),
        (["a=n%16", "b=n%5", "digit=n%10"], ("digit", "classification")),
        (["y=n*1.5", "x=n%9"], ("y", "regression")),
        (["a=n*.5", "count=n%20+n//39*50"], ("count", "regression")),  # a count that occurs once is no class
        (["label='same'", "a=n*.5", "b='pq'[n%2]"], ("b", "classification")),
    ],
)
def test_label_and_task(tmp_path: Path, columns: list[str], suggested: tuple[str, str]) -> None:
    assert label(inspect(tmp_path, tabulate(*columns))) == suggested


def test_what_is_left_out_by_default(tmp_path: Path) -> None:
    text = tabulate(
        *("zero=n", "one=n+1", "index=(n*7)%40", "Unnamed: 0=1000-n", "name='name %s'%n", "same=5", "gap='NA'"),
        *("ident=(n*7)%40+5", "word='w%s'%(n%20)", "x=n*.5", "y='ab'[n%2]"),
    )
    facts = inspect(tmp_path, text)
    assert excluded(facts) == {
        "zero": "row-numbers",
        "one": "row-numbers",
        "index": "unnamed",
        "Unnamed: 0": "unnamed",
        "name": "nearly-unique-text",
        "same": "constant",
        "gap": "empty",
    }
    assert [(code, warning.values) for code, warning in zip(codes(facts), facts.warnings, strict=True)] == [
        ("integers-all-differ", {"column": "ident"})
    ]
    assert [exclusion.index for exclusion in facts.suggested.exclude] == [0, 1, 2, 3, 4, 5, 6]


def test_row_numbers_are_kept_if_nothing_else_predicts_the_label(tmp_path: Path) -> None:
    facts = inspect(tmp_path, tabulate("week=n+1", "sales=n*1.5", "same=5"))
    assert (excluded(facts), label(facts)) == ({"same": "constant"}, ("sales", "regression"))
    assert codes(facts) == ["integers-all-differ"]


@pytest.mark.parametrize("first", ["n+2", "1-n", "n if n != 7 else 6", "n*2"])
def test_other_integers_are_not_row_numbers(tmp_path: Path, first: str) -> None:
    assert excluded(inspect(tmp_path, tabulate(f"a={first}", "x=n*.5", "y='ab'[n%2]"))) == {}


def test_unnamed_column_whose_values_all_differ(tmp_path: Path) -> None:
    facts = inspect(tmp_path, tabulate("=(n*7)%40", "x=n*.5", "y='ab'[n%2]"))
    assert excluded(facts) == {"column 0": "unnamed"}
    assert excluded(inspect(tmp_path, tabulate("=n%7", "x=n*.5", "y='ab'[n%2]"))) == {}


def test_nearly_unique_text_is_counted_by_rows(tmp_path: Path) -> None:
    text = tabulate("a='w%s'%(n%38)", "b='w%s'%(n%39)", "x=n*.5", "y='ab'[n%2]")
    assert excluded(inspect(tmp_path, text)) == {"b": "nearly-unique-text"}
