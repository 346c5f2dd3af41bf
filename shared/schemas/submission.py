"""A submitted job: what all kinds have in common, and how a body becomes typed parameters."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints, ValidationError

from shared.errors import Problem, RequestInvalidError
from shared.jobs import AUTO, ENDED, MAX_PRIORITY, DeviceClass, Kind, State
from shared.kinds import KINDS
from shared.schemas.problems import list_problems
from shared.schemas.strict import Strict
from shared.texts import text

MAX_LABELS: Final = 32
DEVICES: Final = (AUTO, *DeviceClass)
"""What a job may ask for as its device."""
Label = Annotated[str, StringConstraints(max_length=200)]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Webhook(Strict):
    """Where to send messages about a job."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$", max_length=2_000)]
    events: Annotated[list[Annotated[State, Field(strict=False)]], Field(min_length=1, max_length=len(State))] = Field(
        default_factory=lambda: sorted(ENDED)
    )
    """The states about which messages are sent when the job enters them; by default those in which a job ends."""


class Submission(Strict):
    """A job as a client submits it; ``params`` are checked by the schema of the kind."""

    kind: Annotated[Kind, Field(strict=False)]
    params: dict[str, Any] = Field(default_factory=dict)
    device: Annotated[str, StringConstraints(pattern=f"^({'|'.join(DEVICES)})$")] = AUTO
    priority: Annotated[int, Field(ge=0, le=MAX_PRIORITY)] = 5
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    webhook: Webhook | None = None
    labels: Annotated[dict[LabelName, Label], Field(max_length=MAX_LABELS)] = Field(default_factory=dict)


@dataclass(frozen=True)
class ParsedSubmission:
    """A submission whose parts are all typed."""

    submission: Submission
    params: Strict


def parse_submission(body: object, max_timeout_s: float) -> ParsedSubmission:
    """Check all of a submission that can be checked without its files.

    Parameters
    ----------
    body
        The JSON document, or what a form built in its place.
    max_timeout_s
        The longest timeout that this instance allows.

    Raises
    ------
    RequestInvalidError
        With every problem of the submission and its parameters, each with the pointer of its field.
    """
    problems: list[Problem] = []
    submission: Submission | None = None
    try:
        submission = Submission.model_validate(body)
    except ValidationError as error:
        problems += list_problems(error, body)
    if submission is not None and (submission.timeout_s or 0) > max_timeout_s:
        problems.append(Problem("/timeout_s", text("timeout-too-long", max_s=max_timeout_s)))
    params: Strict | None = None
    kind = body.get("kind") if isinstance(body, dict) else None
    given = body.get("params", {}) if isinstance(body, dict) else None
    if isinstance(kind, str) and kind in set(Kind) and isinstance(given, dict):
        try:
            params = KINDS[Kind(kind)].params.model_validate(given)
        except ValidationError as error:
            problems += list_problems(error, given, "/params")
    if problems or submission is None or params is None:
        raise RequestInvalidError(problems)
    return ParsedSubmission(submission, params)
