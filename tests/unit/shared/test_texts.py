"""Every text that the code raises has a sentence in the catalogue, and every sentence is used."""

import ast
import string
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final, get_args

import pytest
from pydantic_core import core_schema

from shared.audio import english as audio_english
from shared.database.migrate import ROOT
from shared.jobs import Kind
from shared.tables import english as tables_english
from shared.texts import Text, english, load_sentences, load_titles, render, render_error, render_stored, text

FOLDERS: Final = ("shared", "web", "worker")
DERIVED: Final = ("model-value-", "http-")
"""Prefixes of codes whose rest is known only at run time."""
PYDANTIC: Final = frozenset(error_type.replace("_", "-") for error_type in get_args(core_schema.ErrorType))
"""Codes that are the types of pydantic's errors."""


def parse_modules() -> Iterator[ast.AST]:
    """Yield the syntax nodes of every module that uses ``shared.texts.text``, and not ``text`` of SQLAlchemy."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            source = path.read_text()
            if "from shared.texts import" in source:
                yield from ast.walk(ast.parse(source))


def list_literals() -> set[str]:
    """List every string in the code, except the strings in the catalogues."""
    folders = ("texts", "audio", "tables", *(f"kinds/{kind}" for kind in Kind))
    catalogues = {ROOT / f"shared/{folder}/english.py" for folder in folders}
    paths: set[Path] = {path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")} - catalogues
    return {
        node.value
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def list_calls() -> Iterator[tuple[str, set[str] | None]]:
    """Yield the code and the names of the values of each call of ``text`` with a literal code.

    If a call unpacks its values from a dictionary, ``None`` is yielded instead of the names.
    """
    for node in parse_modules():
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "text"):
            continue
        if node.args and isinstance(node.args[0], ast.Constant):
            names = [keyword.arg for keyword in node.keywords]
            yield str(node.args[0].value), None if None in names else {str(name) for name in names}


def list_placeholders(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def test_every_call_of_the_text_function_passes_all_values_of_an_existing_sentence() -> None:
    sentences = load_sentences()
    calls = list(list_calls())
    assert len(calls) > 50
    for code, names in calls:
        assert code in sentences, code
        assert names is None or list_placeholders(sentences[code]) <= names, code


def test_every_sentence_is_used() -> None:
    literals = list_literals()
    unused = {code for code in load_sentences() if code not in literals and not code.startswith(DERIVED)}
    assert unused - PYDANTIC == set()


def test_every_title_is_used() -> None:
    literals = list_literals()
    assert {error_type for error_type in load_titles() if error_type not in literals} == set()


def test_unknown_code_is_shown_with_its_values() -> None:
    assert render(Text("from-a-newer-version", {"n": 1})) == "from-a-newer-version {'n': 1}"
    assert render_error({"type": "newer", "code": "newer", "values": {}}) == {
        "type": "newer",
        "title": "newer",
        "detail": "newer",
    }


def test_stored_errors_and_warnings_of_earlier_versions_are_shown_unchanged() -> None:
    old = {"type": "timeout", "title": "The job took too long", "detail": "Give it more time."}
    assert render_error(old) == old
    assert render_stored("Clipping: 1 %") == {"code": "text", "detail": "Clipping: 1 %"}


def test_details_are_stored_and_shown_with_their_text() -> None:
    details = tuple(text("row-uneven", line=line, cells=2, width=3) for line in (4, 6))
    what = Text("bad-cells", {"count": 2}, details)
    assert Text.parse(what.serialize()) == what
    shown = "line 4 has 2 cells instead of 3; line 6 has 2 cells instead of 3"
    assert render(what) == f"2 places of the file cannot be read: {shown}. Correct them."


def test_sentence_of_a_code_is_in_one_catalogue_only() -> None:
    catalogues = [
        english,
        audio_english,
        tables_english,
        *(import_module(f"shared.kinds.{kind}.english") for kind in Kind),
    ]
    codes = [code for catalogue in catalogues for code in catalogue.SENTENCES]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("code", ["cancelled", "timeout", "worker-lost"])
def test_stored_text_is_parsed_to_an_equal_text(code: str) -> None:
    stored = text(code).serialize()
    assert Text.parse(stored) == text(code)
    assert render_stored(stored) == {"code": code, "detail": english.SENTENCES[code]}
