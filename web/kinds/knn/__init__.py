"""The form, the result and the data sets of k nearest neighbours."""

from typing import Final

from flask import Blueprint

from shared.jobs import Kind
from web.kinds.knn import datasets
from web.kinds.knn.form import KnnForm
from web.kinds.knn.result import view_result
from web.kinds.spec import KindApi, KindPages

PAGES: Final = KindPages(
    form=KnnForm,
    title="Nearest neighbours",
    nav_title="Neighbours",
    card_title="Evaluate k nearest neighbours",
    card_text="Measure how well each row of a table is predicted from the rows that are most similar to it. "
    "Use your own CSV file, or the Wine data set.",
    view_result=view_result,
    views=Blueprint(Kind.KNN, __name__, static_folder="static", static_url_path=f"/static/{Kind.KNN}"),
    api=KindApi(datasets.blueprint, datasets.OPERATIONS, [datasets.DatasetList]),
)
