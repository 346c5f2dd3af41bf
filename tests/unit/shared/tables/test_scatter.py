"""Which rows and columns a scatter plot of a table shows."""

from pathlib import Path

from tests.unit.shared.tables.reading_files import inspect


def test_points_are_placed_between_the_least_and_the_greatest_value(tmp_path: Path) -> None:
    text = "n,word,x,same,y,species\n1,a,-2,5,NA,q\n2,b,0,5,1e300,p\n3,a,2,5,-1e300,q\n4,a,1,5,0,NA\n"
    scatter = inspect(tmp_path, text).scatter
    assert scatter is not None
    assert scatter.columns == [2, 4]
    assert scatter.places == [[0, 50, 100, 75], [None, 100, 0, 50]]
    assert (scatter.classes, scatter.groups) == (["p", "q"], [1, 0, 1, None])


def test_points_and_columns_are_limited_and_spread_over_the_table(tmp_path: Path) -> None:
    rows = [",".join(str(index * (column + 1) + 0.5) for column in range(9)) for index in range(1_000)]
    scatter = inspect(tmp_path, "a,b,c,d,e,f,g,h,y\n" + "\n".join(rows)).scatter
    assert scatter is not None
    assert scatter.columns == [0, 1, 2, 3, 4]
    assert (len(scatter.places[0]), scatter.places[0][0], scatter.places[0][-1]) == (300, 0, 100)
    assert (scatter.classes, scatter.groups) == ([], [])


def test_table_with_one_column_of_numbers_has_no_scatter_plot(tmp_path: Path) -> None:
    assert inspect(tmp_path, "word,x,y\na,1,p\nb,5,q\na,2,p\nb,3,q\n").scatter is None
