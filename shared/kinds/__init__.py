"""The kinds of job: parameters, results and data of each.

A kind is a member of ``shared.jobs.Kind`` and a package here of the same name, whose ``SPEC`` describes it.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from shared.jobs import Kind
from shared.kinds.spec import KindSpec
from shared.schemas.strict import Strict

KINDS: Final[Mapping[Kind, KindSpec[Any]]] = {kind: import_module(f"shared.kinds.{kind}").SPEC for kind in Kind}


def parse_params(kind: str, stored: Mapping[str, Any]) -> Strict:
    """Read the parameters of a job's row."""
    params: Strict = KINDS[Kind(kind)].params.model_validate(stored)
    return params


def list_uploads(kind: str, params: Strict) -> dict[str, str]:
    """Return JSON pointer to upload id, of each upload that the parameters of a job name."""
    return KINDS[Kind(kind)].list_uploads(params)
