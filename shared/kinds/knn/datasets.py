"""The built-in data sets."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from shared.tables.facts import TableFacts

DATA_FOLDER: Final = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Builtin:
    """A built-in data set, as ``GET /datasets`` describes it."""

    name: str
    title: str
    file: str
    label: str
    columns: tuple[str, ...]
    rows: int
    classes: tuple[str, ...]
    source: str
    licence: str


WINE: Final = Builtin(
    name="wine",
    title="Wine: 178 wines of three cultivars",
    file="wine.data",
    label="Cultivar",
    columns=(
        "Alcohol",
        "Malic acid",
        "Ash",
        "Alcalinity of ash",
        "Magnesium",
        "Total phenols",
        "Flavanoids",
        "Nonflavanoid phenols",
        "Proanthocyanins",
        "Color intensity",
        "Hue",
        "OD280/OD315 of diluted wines",
        "Proline",
    ),
    rows=178,
    classes=("1", "2", "3"),
    source="https://doi.org/10.24432/C5PC7J",
    licence="CC BY 4.0",
)
BUILTINS: Final = {WINE.name: WINE}


@cache
def load_facts(name: str) -> TableFacts:
    """Return what an inspection finds in a built-in data set, whose first column is the label."""
    return TableFacts.model_validate_json((DATA_FOLDER / f"{name}.json").read_bytes())
