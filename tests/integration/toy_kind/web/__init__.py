"""The pages of the toy kind."""

from typing import Final

from shared.schemas import responses
from shared.services import Services
from web.kinds.spec import KindPages, ResultView
from web.kinds.toy.form import ToyForm


def view_result(_services: Services, job: responses.Job) -> ResultView:
    """Show the files of the job."""
    return ResultView(other_files=job["artifacts"])


PAGES: Final = KindPages(
    form=ToyForm,
    title="Toy",
    nav_title="Toy",
    card_title="Add up numbers",
    card_text="A toy.",
    view_result=view_result,
)
