"""Converts what an inspection found to the form in which the API shows it: texts are put into English."""

from collections.abc import Mapping
from typing import Any, Final

from shared.database.tables import Upload
from shared.inspection.upload_kinds import UploadKind
from shared.texts import render_stored, text


def present_facts(upload: Upload) -> dict[str, Any]:
    """Return what was found in an upload; nothing if it is not inspected yet, or unreadable."""
    if upload.facts is None:
        return {}
    return _PRESENT[UploadKind(upload.kind)](upload.facts)


def _present_table(facts: Mapping[str, Any]) -> dict[str, Any]:
    suggested = facts["suggested"]
    excluded = [
        {
            "column": column["column"],
            "index": column["index"],
            "reason": render_stored(text(column["reason"], column=column["column"]).serialize()),
        }
        for column in suggested["exclude"]
    ]
    return {
        **facts,
        "suggested": {**suggested, "exclude": excluded},
        "warnings": [render_stored(warning) for warning in facts["warnings"]],
    }


def _present_audio(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {**facts, "warnings": [render_stored(warning) for warning in facts["warnings"]]}


_PRESENT: Final = {UploadKind.TABLE: _present_table, UploadKind.AUDIO: _present_audio}
