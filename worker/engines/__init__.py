"""The engines: parameters and files in, results and files out. They know neither the queue nor the database.

A kind of job is a member of ``shared.jobs.Kind`` and a package here of the same name, whose ``ENGINE`` describes its
engine.
"""

from importlib import import_module
from typing import Any, Final

from shared.jobs import Kind
from worker.engines.spec import EngineSpec

ENGINES: Final[dict[Kind, EngineSpec[Any]]] = {kind: import_module(f"worker.engines.{kind}").ENGINE for kind in Kind}
