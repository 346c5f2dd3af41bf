"""What the web must know of a kind of job; see ``docs/adding-a-kind.md``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint

from shared.schemas import responses
from shared.services import Services
from web.kinds.job_form import JobForm
from web.openapi.operation import Operation


@dataclass(frozen=True)
class ResultView:
    """What the page of a job shows of its result; each kind adds fields of its own.

    Parameters
    ----------
    other_files
        The artifacts that the kind's template does not show; the page lists them.
    """

    other_files: Sequence[responses.Artifact]


@dataclass(frozen=True)
class RetryOption:
    """Another way to run an ended job again.

    Parameters
    ----------
    title
        The title of its button.
    changes
        The parameters in which the new job differs.
    """

    title: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class KindApi:
    """Calls of the API that belong to one kind of job.

    Parameters
    ----------
    views
        The blueprint of the calls; its name is the kind.
    operations
        Name of a view to its description in the OpenAPI document.
    schemas
        The types to which the descriptions refer.
    """

    views: Blueprint
    operations: Mapping[str, Operation]
    schemas: Sequence[type]


@dataclass(frozen=True)
class KindPages:
    """One kind of job on the pages.

    The kind's folder ``templates`` has ``form.html``, the page of the form, and ``result.html``, whose macro
    ``show_result(job, view)`` shows a result.

    Parameters
    ----------
    form
        The form that submits such a job.
    title
        The heading of a job's page.
    nav_title
        The title of the form in the navigation.
    card_title, card_text
        The link to the form on the home page, and what it says.
    view_result
        Returns what ``result.html`` shows of a job that has a result, ``None`` if there is nothing to show.
    retry_options
        Name of a button on the page of an ended job to what it does.
    views
        Pages of the kind's own, and its static files; the blueprint's name is the kind.
    api
        Calls of the API of the kind's own.
    """

    form: type[JobForm]
    title: str
    nav_title: str
    card_title: str
    card_text: str
    view_result: Callable[[Services, responses.Job], ResultView | None]
    retry_options: Mapping[str, RetryOption] = field(default_factory=dict)
    views: Blueprint | None = None
    api: KindApi | None = None
