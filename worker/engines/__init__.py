"""The engines: parameters and files in, results and files out. The engines know neither the queue nor the database.

Each kind of job is a member of ``shared.jobs.Kind`` and has a package of the same name in this folder. ``ENGINE`` in
that package describes the engine of the kind.
"""

from importlib import import_module
from typing import Any, Final

from shared.jobs import Kind
from worker.engines.spec import EngineSpec

ENGINES: Final[dict[Kind, EngineSpec[Any]]] = {kind: import_module(f"worker.engines.{kind}").ENGINE for kind in Kind}
