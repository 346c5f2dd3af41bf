"""What the web application must know about a kind of job; see ``docs/adding-a-kind.md``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flask import Blueprint

from shared.schemas import responses
from shared.services import Services
from web.kinds.job_form import JobForm
from web.openapi.operation import Operation


@dataclass(frozen=True)
class ResultView:
    """What the page of a job shows of the job's result. Each kind of job adds its own fields in a subclass.

    Parameters
    ----------
    other_files
        The artifacts that the template of the kind does not show. The page lists these artifacts.
    """

    other_files: Sequence[responses.Artifact]


@dataclass(frozen=True)
class KindApi:
    """Calls of the API that belong to one kind of job.

    Parameters
    ----------
    views
        The blueprint of the calls. The name of the blueprint is the kind.
    operations
        For each view, keyed by its name, the description in the OpenAPI document.
    schemas
        The types to which the descriptions refer.
    """

    views: Blueprint
    operations: Mapping[str, Operation]
    schemas: Sequence[type]


@dataclass(frozen=True)
class KindPages:
    """What the pages need to know about one kind of job.

    The kind's folder ``templates`` contains ``form.html``, the page of the form, and ``result.html``. The macro
    ``show_result(job, view)`` in ``result.html`` shows a result.

    Parameters
    ----------
    form
        The form that submits a job of this kind.
    title
        The heading of a job's page.
    nav_title
        The title of the form in the navigation.
    card_title, card_text
        The title and the text of the link to the form on the home page.
    view_result
        Returns what ``result.html`` shows of a job that has a result; ``None`` if there is nothing to show.
    new_seed_title
        The title of the button that runs an ended job again with another seed; ``None`` if there is no such button.
    views
        The blueprint with the static files and the additional pages of the kind. The name of the blueprint is the kind.
    api
        The API calls that belong to this kind only.
    """

    form: type[JobForm]
    title: str
    nav_title: str
    card_title: str
    card_text: str
    view_result: Callable[[Services, responses.Job], ResultView | None]
    new_seed_title: str | None = None
    views: Blueprint | None = None
    api: KindApi | None = None
