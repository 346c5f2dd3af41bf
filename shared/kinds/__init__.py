"""The kinds of job: the parameters, results and data of each kind.

For each member of ``shared.jobs.Kind``, this folder has a package of the same name. ``SPEC`` in that package describes
the kind.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from shared.jobs import Kind
from shared.kinds.spec import KindSpec
from shared.schemas.strict import Strict

KINDS: Final[Mapping[Kind, KindSpec[Any]]] = {kind: import_module(f"shared.kinds.{kind}").SPEC for kind in Kind}


def parse_params(kind: str, stored: Mapping[str, Any]) -> Strict:
    """Convert the parameters in a job's row to the schema of the kind."""
    params: Strict = KINDS[Kind(kind)].params.model_validate(stored)
    return params


def list_uploads(kind: str, params: Strict) -> dict[str, str]:
    """Return the ids of the uploads in the parameters of a job, keyed by the JSON pointer of the parameter."""
    return KINDS[Kind(kind)].list_uploads(params)
