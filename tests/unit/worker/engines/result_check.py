"""A check that the result of an engine has the form that the API describes."""

import json
from typing import Any

from pydantic import TypeAdapter

from shared.jobs import Kind
from shared.kinds import KINDS


def check_result(kind: Kind, result: dict[str, Any]) -> None:
    """Check that the result can be stored as JSON, and that the API returns exactly the fields that it describes."""
    stored = json.loads(json.dumps(result, allow_nan=False))
    assert stored == result
    presented = json.dumps(KINDS[kind].present_result(stored), allow_nan=False)
    assert TypeAdapter[object](KINDS[kind].result).validate_json(presented, strict=True) == json.loads(presented)
