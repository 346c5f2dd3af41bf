"""Runs an inspection in a process without rights, and reads its answer, which may be anything.

Each process inspects one file. It is started before there is a file, and imports its libraries while it waits, since
that takes longer than to inspect a small file: with polars 0.6 s of processor time, of which 0.02 s are Python's.
"""

import json
import logging
import math
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Final

from shared.inspection import child
from shared.inspection.restrictions import Limits
from shared.texts import Text, can_render, text

MAX_ANSWER_BYTES: Final = 8 * 2**20
KEEP_WAITING_INTERVAL_S: Final = 2.0
"""How often the caller is asked whether the answer is still wanted."""
_EXIT_S: Final = 1.0
"""How long a process may take to end after its answer."""
_NO_ENVIRONMENT: Final[Mapping[str, str]] = {}
_READ_BYTES: Final = 2**16
_CODE: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")

logger = logging.getLogger(__name__)
_logged: Final = set[str]()
"""What systems refuse, so that it is logged once."""


@dataclass(frozen=True)
class Answer:
    """What an inspection found.

    Parameters
    ----------
    facts
        What is in the file; ``None`` if it cannot be read.
    problem
        Why the file cannot be read, and what to do; ``None`` if it can be read.
    content
        Bytes that were made of the file, if the function makes any. They may have any length up to the limit.
    """

    facts: dict[str, Any] | None = None
    problem: Text | None = None
    content: bytes = b""


class NotWantedError(Exception):
    """The caller does not want the answer any more."""


class ProcessLostError(Exception):
    """The process has ended while it waited for its file, for example because the system needed its memory."""


class SandboxedProcess:
    """A process that inspects one file.

    The thread that makes this object must run as long as the process, since the kernel ends the process with it.

    Parameters
    ----------
    function
        The function that inspects, as ``module:function``; see `shared.inspection.child`.
    memory_mb
        The memory that the process may use.
    timeout_s
        How long the inspection may take, and how much processor time the process may use.
    max_answer_bytes
        How long the answer may be.
    """

    def __init__(
        self, function: str, memory_mb: int, timeout_s: float, max_answer_bytes: int = MAX_ANSWER_BYTES
    ) -> None:
        self._memory_mb = memory_mb
        self._timeout_s = timeout_s
        self._max_answer_bytes = max_answer_bytes
        limits = json.dumps(asdict(Limits(memory_mb * 2**20, math.ceil(timeout_s))))
        # One message carries the options and the file, so its boundaries are kept.
        self._connection, their_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with their_end:
            self._process = subprocess.Popen(
                # Isolated, without the search path and the user's packages; modules are not compiled into files.
                [sys.executable, "-I", "-B", child.__file__, str(os.getpid()), function, limits],
                stdin=their_end.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_NO_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )

    @property
    def id(self) -> int:
        """The id of the process."""
        return self._process.pid

    def inspect(self, file: BinaryIO, options: Mapping[str, Any], is_wanted: Callable[[], bool]) -> Answer:
        """Inspect a file, and end the process.

        Parameters
        ----------
        file
            The file, opened for reading.
        options
            What the function gets besides the file.
        is_wanted
            Is called regularly; if it returns false, the process is killed.

        Raises
        ------
        NotWantedError
            ``is_wanted`` has returned false.
        ProcessLostError
            The process has ended before it got the file; another one can inspect it.
        """
        try:
            received = self._send(file, options)
            content = self._read(time.monotonic() + self._timeout_s, is_wanted)
        finally:
            self.close()
        if not received and not content:
            raise ProcessLostError(f"status {self._process.returncode}")
        if content is None or self._process.returncode == -signal.SIGXCPU:
            return Answer(problem=text("inspection-too-slow", limit_s=self._timeout_s))
        if len(content) > self._max_answer_bytes:
            return Answer(problem=text("inspection-answer-too-long", max_bytes=self._max_answer_bytes))
        return self._parse(content)

    def close(self) -> None:
        """Kill the process and whatever it has started."""
        self._connection.close()
        if self._process.returncode is None:
            # The process leads a session and a group of its own. It is not waited for before, so its id is not reused.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _send(self, file: BinaryIO, options: Mapping[str, Any]) -> bool:
        """Send the file, and return whether the process was still there: it may have failed to import its libraries."""
        try:
            socket.send_fds(self._connection, [json.dumps(options).encode()], [file.fileno()])
        except OSError:
            return False
        return True

    def _read(self, deadline: float, is_wanted: Callable[[], bool]) -> bytes | None:
        """Read the answer until the process has ended, or the answer is too long; ``None`` if the time is up."""
        if self._process.stdout is None:
            raise AssertionError("the output is a pipe")
        output = self._process.stdout.fileno()
        content = bytearray()
        ask_at = time.monotonic() + KEEP_WAITING_INTERVAL_S
        while len(content) <= self._max_answer_bytes:
            now = time.monotonic()
            if now >= deadline:
                return None
            if now >= ask_at:
                ask_at = now + KEEP_WAITING_INTERVAL_S
                if not is_wanted():
                    raise NotWantedError
            if not _wait_for(output, min(deadline, ask_at) - now):
                continue
            part = os.read(output, _READ_BYTES)
            if not part:
                self._wait_for_end()
                return bytes(content)
            content += part
        return bytes(content)

    def _wait_for_end(self) -> None:
        """Wait until the process has ended, but not for long; `close` kills it then."""
        ended = os.pidfd_open(self._process.pid)
        try:
            _wait_for(ended, _EXIT_S)
        finally:
            os.close(ended)

    def _parse(self, content: bytes) -> Answer:
        described, _, made = content.partition(b"\n")
        answer = _load(described) if self._process.returncode == 0 else None
        match answer:
            case {"facts": dict(facts), "refused": list(refused)}:
                _log_refused(refused)
                return Answer(facts=facts, content=made)
            case {"problem": problem} if (read := _read_text(problem)) is not None and can_render(read):
                return Answer(problem=read)
            case {"failure": child.OUT_OF_MEMORY}:
                return Answer(problem=text("inspection-too-large", memory_mb=self._memory_mb))
            case {"failure": str(failure)}:
                logger.error("an inspection failed: %s", failure)
                return Answer(problem=text("inspection-failed"))
        logger.warning("an inspection ended with status %d and %d bytes", self._process.returncode, len(content))
        return Answer(problem=text("inspection-died", memory_mb=self._memory_mb))


def _read_text(stored: object, *, has_details: bool = True) -> Text | None:
    """Read a text with its details, each of them without details of its own; ``None`` if it is none."""
    match stored:
        case {"code": str(code), "values": dict(values), **others} if _CODE.fullmatch(code):
            simple = {name: value for name, value in values.items() if not isinstance(value, dict | list)}
            details = others.get("details") if has_details else None
            read = [_read_text(detail, has_details=False) for detail in details] if isinstance(details, list) else []
            return Text(code, simple, tuple(detail for detail in read if detail is not None))
    return None


def _wait_for(descriptor: int, timeout_s: float) -> bool:
    """Wait until a descriptor can be read, or the time is up."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0, math.ceil(timeout_s * 1_000))))


def _load(content: bytes) -> object:
    """Parse the answer; ``None`` if it is not JSON, or has numbers that are not JSON's."""
    try:
        answer = json.loads(content)
        json.dumps(answer, allow_nan=False)
        return _make_storable(answer)
    except (ValueError, RecursionError):
        return None


def _make_storable(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Replace what a database cannot store: NUL characters, and halves of surrogate pairs."""
    match value:
        case str():
            return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
        case dict():
            return {_make_storable(name): _make_storable(part) for name, part in value.items()}
        case list():
            return [_make_storable(part) for part in value]
    return value


def _log_refused(refused: list[Any]) -> None:
    for name in map(str, refused):
        if name not in _logged:
            _logged.add(name)
            logger.warning("inspections run without one of their restrictions, which this system refuses: %s", name)
