"""What inspects each kind of upload. Uploads of other kinds are not inspected."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from shared.audio.facts import AudioFacts
from shared.inspection.sandbox import Answer, SandboxedProcess
from shared.inspection.upload_kinds import InspectionState, UploadKind
from shared.settings import Settings
from shared.tables.facts import TableFacts
from shared.texts import text

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inspector:
    """How uploads of one kind are inspected.

    Parameters
    ----------
    function
        The function that inspects a file, as ``module:function``; see `shared.inspection.child`. Only the process
        without rights may import the module.
    list_options
        Returns the options of the function, which JSON can represent. The arguments are the settings, and how the file
        is read (`shared.kinds.spec.KindSpec.list_read_options`).
    check_facts
        Returns the facts that the function found in the form in which they are stored. It raises ``ValidationError`` if
        they have another form: a file may have taken over the process.
    """

    function: str
    list_options: Callable[[Settings, Mapping[str, Any]], Mapping[str, Any]]
    check_facts: Callable[[Mapping[str, Any]], dict[str, Any]]


def _list_table_options(settings: Settings, read: Mapping[str, Any]) -> Mapping[str, Any]:
    limits = {
        "rows": settings.max_dataset_rows,
        "columns": settings.max_dataset_columns,
        "bytes": settings.max_unpacked_bytes,
    }
    return {"limits": limits, "read": read}


def _check_table_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    return TableFacts.model_validate(facts).model_dump(mode="json")


def _list_audio_options(settings: Settings, read: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG001 - nothing can be set
    return {"max_s": settings.max_audio_s}


def _check_audio_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    return AudioFacts.model_validate(facts).model_dump(mode="json")


INSPECTORS: Final[dict[UploadKind, Inspector]] = {
    UploadKind.TABLE: Inspector("shared.inspection.tables:inspect", _list_table_options, _check_table_facts),
    UploadKind.AUDIO: Inspector("shared.inspection.audio:inspect", _list_audio_options, _check_audio_facts),
}


def get_first_state(kind: UploadKind) -> InspectionState | None:
    """Return the state in which the inspection of a new upload begins; ``None`` if it is not inspected."""
    return InspectionState.PENDING if kind in INSPECTORS else None


def start_process(inspector: Inspector, settings: Settings) -> SandboxedProcess:
    """Start a process that inspects one file."""
    return SandboxedProcess(inspector.function, settings.inspection_memory_mb, settings.inspection_timeout_s)


def inspect_file(inspector: Inspector, path: Path, settings: Settings, read: Mapping[str, Any]) -> Answer:
    """Inspect one file, which is read as ``read`` says, and wait for the end.

    Raises
    ------
    ProcessLostError
        The process has ended before it got the file.
    """
    with path.open("rb") as file:
        process = start_process(inspector, settings)
        return check_answer(inspector, process.inspect(file, inspector.list_options(settings, read), lambda: True))


def check_answer(inspector: Inspector, answer: Answer) -> Answer:
    """Return an answer whose facts have the form in which they are stored."""
    if answer.facts is None:
        return answer
    try:
        return Answer(facts=inspector.check_facts(answer.facts))
    except ValidationError as error:
        logger.warning("an inspection told facts of another form: %s", error.errors(include_input=False)[:3])
        return Answer(problem=text("inspection-failed"))
