"""Whether a result is as the API describes it."""

import json
from typing import Any

from pydantic import TypeAdapter

from shared.jobs import Kind
from shared.kinds import KINDS


def check_result(kind: Kind, result: dict[str, Any]) -> None:
    """See that nothing is missing, of another type, or not described."""
    text = json.dumps(result, allow_nan=False)
    assert TypeAdapter[object](KINDS[kind].result).validate_json(text, strict=True) == json.loads(text)
