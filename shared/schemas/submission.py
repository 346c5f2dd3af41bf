"""The schema of a submitted job: the fields that all kinds have in common, and the conversion to typed parameters."""

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
"""The values that a job may request as its device."""
Label = Annotated[str, StringConstraints(max_length=200)]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Webhook(Strict):
    """Where to send messages about a job."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$", max_length=2_000)]
    events: Annotated[list[Annotated[State, Field(strict=False)]], Field(min_length=1, max_length=len(State))] = Field(
        default_factory=lambda: sorted(ENDED)
    )
    """A message is sent when the job enters one of these states; by default the states in which a job ends."""


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
    """A submission that was checked, with typed parameters."""

    submission: Submission
    params: Strict


def parse_submission(body: object, max_timeout_s: float) -> ParsedSubmission:
    """Check everything in a submission that can be checked without the uploaded files.

    Parameters
    ----------
    body
        The JSON document of the request, or the document that a form built.
    max_timeout_s
        The longest timeout that this instance allows.

    Raises
    ------
    RequestInvalidError
        The submission is not valid. The error contains every problem, each with the pointer of its field.
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
