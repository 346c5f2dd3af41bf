"""The log of a process: lines of text or JSON objects, each with the fields of its log context."""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from shared.database.migrate import ROOT
from shared.settings import Settings
from tests.support.processes import make_environment

SAY = """
import logging, threading, warnings
from shared.logs import log_context, set_up_logging
from shared.settings import load_settings

set_up_logging(load_settings())
logger = logging.getLogger("a.b")
logger.debug("nobody asked")
logger.info("begins with %s", "é")
with log_context(job="j1", request="r1"):
    logger.warning("two\\nlines")
    with log_context(job="j2", request=None):
        logger.error("within")
    other = threading.Thread(target=logger.info, args=("elsewhere",))
    other.start()
    other.join()
    try:
        1 / 0
    except ZeroDivisionError:
        logger.exception("failed")
warnings.warn("take care", UserWarning)
logging.getLogger("alembic").info("a step")
"""


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_format: str) -> str:
    """Run ``SAY`` in a separate process, and return the log of this process."""
    monkeypatch.chdir(tmp_path)  # so that a developer's .env is not read
    environment = make_environment(Settings.model_validate({"home": tmp_path / "home", "log_format": log_format}))
    said = subprocess.run([sys.executable, "-c", SAY], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert said.stdout == b""
    return said.stderr.decode()


@pytest.mark.slow
def test_json_log_has_one_object_per_line_with_the_fields_of_the_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in run(tmp_path, monkeypatch, "json").splitlines()]
    facts = [[line.pop(name, None) for name in ("level", "logger", "message", "job", "request")] for line in lines]
    assert facts[:-1] == [
        ["INFO", "a.b", "begins with é", None, None],
        ["WARNING", "a.b", "two\nlines", "j1", "r1"],
        ["ERROR", "a.b", "within", "j2", "r1"],
        ["INFO", "a.b", "elsewhere", None, None],
        ["ERROR", "a.b", "failed", "j1", "r1"],
    ]
    assert facts[-1][:2] == ["WARNING", "py.warnings"]
    assert "UserWarning: take care" in facts[-1][2]
    assert len({line.pop("process") for line in lines}) == 1
    assert all(datetime.fromisoformat(line.pop("time")).tzinfo for line in lines)
    tracebacks = [line.pop("exc_info", None) for line in lines]
    assert [bool(traceback) for traceback in tracebacks] == [False] * 4 + [True, False]
    assert "ZeroDivisionError: division by zero" in tracebacks[4]
    assert lines == [{}] * 6


@pytest.mark.slow
def test_text_log_appends_the_fields_of_the_context_to_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = run(tmp_path, monkeypatch, "text").splitlines()
    ends = ["begins with é", "two job=j1 request=r1", "lines", "within job=j2 request=r1", "elsewhere"]
    ends += ["failed job=j1 request=r1", "Traceback (most recent call last):"]
    assert [line.rpartition(": ")[2] or line for line in lines[:6]] == ends[:6]
    assert lines[6] == ends[6]
    assert "WARNING" in lines[1]
    assert any("UserWarning: take care" in line for line in lines)
    assert not any("nobody asked" in line or "a step" in line for line in lines)
