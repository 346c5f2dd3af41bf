"""Finds the source files that the graphs depend on, by following imports.

A stored graph is valid only for the code that built it. The source files are found by
following imports and are not listed by hand, so that a new module cannot be missed.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PACKAGE: Final = "worker.engines.musicgen"
FOLDER: Final = Path(__file__).parents[2]
"""The folder of the package ``worker.engines.musicgen``."""

_GRAPHS: Final = "backends/openvino"
_FRAMEWORK: Final = "openvino"


def hash_sources(folder: Path = FOLDER) -> str:
    """Hash the content of every source file that `list_sources` returns."""
    contents = (path.read_bytes() for path in list_sources(folder))
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()


def list_sources(folder: Path = FOLDER) -> list[Path]:
    """List the files of all modules of music generation that the graphs depend on.

    These are the modules of ``backends/openvino`` that import OpenVINO, and all modules of music generation that they
    import, directly or indirectly. The ``__init__`` modules of packages are left out, since they define nothing that
    graphs depend on.

    Parameters
    ----------
    folder
        The folder of ``worker.engines.musicgen``.
    """
    found: set[Path] = set()
    waiting = [path for path in (folder / _GRAPHS).glob("*.py") if _FRAMEWORK in _read_imports(path)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for name in _read_imports(path) if (file := _find_module(folder, name)) is not None]
    return sorted(found)


def _read_imports(path: Path) -> set[str]:
    """Return the names of all modules that a file imports. Some of the names may be names of objects in a module."""
    return set(_list_imports(ast.parse(path.read_bytes(), path)))


def _list_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _find_module(folder: Path, name: str) -> Path | None:
    """Return the file of a module of music generation; None if ``name`` is not the name of such a module."""
    if not name.startswith(f"{PACKAGE}."):
        return None
    path = folder.joinpath(*name.removeprefix(f"{PACKAGE}.").split(".")).with_suffix(".py")
    return path if path.is_file() else None
