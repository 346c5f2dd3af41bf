"""Real data sets, with what scikit-learn makes of each, written by hand.

Each case says how pandas reads the file, which column is the label, and which columns are numbers, words and days. The
columns that it does not name are left out: names and numbers of rows, and columns with one value or hundreds of words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

K: Final = 5
DAY: Final = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Case:
    """A data set.

    Parameters
    ----------
    file
        The name of the file that `export` writes.
    label
        The column to predict; a position if the file has no names.
    numbers, words, days
        The attributes. They are separated by blanks, or given as a list if a name contains blanks or is a position.
    read
        How pandas reads the file, if not as CSV with names in the first line.
    sample
        The number of rows for training, if the table is too large to predict all rows.
    """

    file: str
    label: str | int
    numbers: str | Sequence[str | int] = ""
    words: str | Sequence[str] = ""
    days: str | Sequence[str] = ""
    regression: bool = False
    read: Mapping[str, Any] = field(default_factory=dict)
    sample: int | None = None

    @property
    def task(self) -> Literal["classification", "regression"]:
        return "regression" if self.regression else "classification"

    def load(self, folder: Path) -> "tuple[pd.DataFrame, pd.Series[Any]]":
        """Read the attributes and the labels."""
        table = pd.read_csv(folder / self.file, keep_default_na=False, na_values=["", "NA"], **self.read)
        for name in _split(self.days):
            table[name] = (pd.to_datetime(table[name]) - pd.Timestamp(0)) / DAY
        return table, table[self.label]

    def make_pipeline(self) -> Pipeline:
        """Make what fills gaps, encodes words, scales numbers, and predicts."""
        numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
        words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
        columns = [
            ("numbers", numbers, [*_split(self.numbers), *_split(self.days)]),
            ("words", words, _split(self.words)),
        ]
        neighbours = KNeighborsRegressor if self.regression else KNeighborsClassifier
        return make_pipeline(
            ColumnTransformer(columns, sparse_threshold=0), neighbours(n_neighbors=K, algorithm="brute")
        )


def _split(columns: str | Sequence[str | int]) -> list[str | int]:
    return list(columns.split()) if isinstance(columns, str) else list(columns)


CASES: Final = (
    Case(
        "palmerpenguins-penguins.csv",
        "species",
        numbers="bill_length_mm bill_depth_mm flipper_length_mm body_mass_g year",
        words="island sex",
    ),
    Case(
        "palmerpenguins-penguins-raw.csv",
        "Species",
        numbers=[
            *("Sample Number", "Culmen Length (mm)", "Culmen Depth (mm)", "Flipper Length (mm)", "Body Mass (g)"),
            *("Delta 15 N (o/oo)", "Delta 13 C (o/oo)"),
        ],
        words=["studyName", "Island", "Clutch Completion", "Sex", "Comments"],
        days=["Date Egg"],
    ),
    Case("COUNT-titanic.csv", "survived", words="class age sex"),
    Case("carData-TitanicSurvival.csv", "survived", numbers="age", words="sex passengerClass"),
    Case(
        "ggplot2-diamonds.csv",
        "price",
        numbers="carat depth table x y z",
        words="cut color clarity",
        regression=True,
        sample=40_000,
    ),
    Case("ggplot2-mpg.csv", "class", numbers="displ year cyl cty hwy", words="manufacturer trans drv fl"),
    Case(
        "ggplot2-msleep.csv",
        "conservation",
        numbers="sleep_total sleep_rem sleep_cycle awake brainwt bodywt",
        words="vore order",
    ),
    Case("datasets-cars.csv", "dist", numbers="speed", regression=True),
    Case("datasets-mtcars.csv", "mpg", numbers="cyl disp hp drat wt qsec vs am gear carb", regression=True),
    Case("datasets-airquality.csv", "Temp", numbers="Ozone Solar.R Wind Month Day", regression=True),
    Case("datasets-chickwts.csv", "feed", numbers="weight"),
    Case(
        "ISLR-Carseats.csv",
        "Sales",
        numbers="CompPrice Income Advertising Population Price Age Education",
        words="ShelveLoc Urban US",
        regression=True,
    ),
    Case(
        "ISLR-College.csv",
        "Private",
        numbers="Apps Accept Enroll Top10perc Top25perc F.Undergrad P.Undergrad Outstate Room.Board Books Personal PhD "
        "Terminal S.F.Ratio perc.alumni Expend Grad.Rate",
    ),
    Case("ISLR-Default.csv", "default", numbers="balance income", words="student"),
    Case(
        "ISLR-Hitters.csv",
        "Salary",
        numbers="AtBat Hits HmRun Runs RBI Walks Years CAtBat CHits CHmRun CRuns CRBI CWalks PutOuts Assists Errors",
        words="League Division NewLeague",
        regression=True,
    ),
    Case(
        "ISLR-OJ.csv",
        "Purchase",
        numbers="WeekofPurchase StoreID PriceCH PriceMM DiscCH DiscMM SpecialCH SpecialMM LoyalCH SalePriceMM "
        "SalePriceCH PriceDiff PctDiscMM PctDiscCH ListPriceDiff STORE",
        words="Store7",
    ),
    Case(
        "ISLR-Wage.csv",
        "wage",
        numbers="year age logwage",
        words="maritl race education jobclass health health_ins",
        regression=True,
    ),
    Case("reshape2-tips.csv", "tip", numbers="total_bill size", words="sex smoker day time", regression=True),
    Case(
        "modeldata-attrition.csv",
        "Attrition",
        numbers="Age DailyRate DistanceFromHome HourlyRate JobLevel MonthlyIncome MonthlyRate NumCompaniesWorked "
        "PercentSalaryHike StockOptionLevel TotalWorkingYears TrainingTimesLastYear YearsAtCompany YearsInCurrentRole "
        "YearsSinceLastPromotion YearsWithCurrManager",
        words="BusinessTravel Department Education EducationField EnvironmentSatisfaction Gender JobInvolvement "
        "JobRole JobSatisfaction MaritalStatus OverTime PerformanceRating RelationshipSatisfaction WorkLifeBalance",
    ),
    Case(
        "modeldata-credit_data.csv",
        "Status",
        numbers="Seniority Time Age Expenses Income Assets Debt Amount Price",
        words="Home Marital Records Job",
    ),
    Case("modeldata-two_class_dat.csv", "Class", numbers="A B"),
    Case("MASS-crabs.csv", "sp", numbers="index FL RW CL CW BD", words="sex"),
    Case("MASS-Pima.tr2.csv", "type", numbers="npreg glu bp skin bmi ped age"),
    Case("MASS-biopsy.csv", "class", numbers="ID V1 V2 V3 V4 V5 V6 V7 V8 V9"),
    Case("MASS-birthwt.csv", "bwt", numbers="low age lwt race smoke ptl ht ui ftv", regression=True),
    Case(
        "MASS-Boston.csv",
        "medv",
        numbers="crim zn indus chas nox rm age dis rad tax ptratio black lstat",
        regression=True,
    ),
    Case(
        "AER-HMDA.csv",
        "deny",
        numbers="pirat hirat lvrat chist mhist unemp",
        words="phist selfemp insurance condomin afam single hschool",
    ),
    Case(
        "carData-Salaries.csv",
        "salary",
        numbers="yrs.since.phd yrs.service",
        words="rank discipline sex",
        regression=True,
    ),
    Case(
        "vega_datasets-seattle-weather.csv",
        "weather",
        numbers="precipitation temp_max temp_min wind",
        days="date",
    ),
    Case("statsmodels-spector.csv", "GRADE", numbers="GPA TUCE PSI", read={"sep": r"\s+", "quotechar": "'"}),
    Case(
        "statsmodels-anes96.csv",
        "vote",
        numbers="popul TVnews selfLR ClinLR DoleLR PID age educ income",
        read={"sep": "\t", "quotechar": "'"},
    ),
    Case(
        "statsmodels-fair.csv",
        "affairs",
        numbers="rate_marriage age yrs_married children religious educ occupation occupation_husb",
        regression=True,
    ),
    Case("sklearn-iris.csv", "virginica", numbers=["150", "4", "setosa", "versicolor"]),
    Case("sklearn-breast_cancer.csv", 30, numbers=range(30), read={"skiprows": 1, "header": None}),
    Case("sklearn-wine_data.csv", 13, numbers=range(13), read={"skiprows": 1, "header": None}),
    Case(
        "sklearn-digits.csv.gz",
        64,
        numbers=[position for position in range(64) if position not in {0, 32, 39}],
        read={"header": None},
    ),
)
