"""Damaged files: mutants of good ones, drawn from a fixed seed, and a process that reads them."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from tests.support import mutant_reader

SEED: Final = 14
_HEAD_BYTES: Final = 600
"""Half of the changes are made here, where the headers are."""
_EXTREMES: Final = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    2**63 - 1,
    2**63,
)
_REPLY_BYTES: Final = 2**16


def make_mutants(originals: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Draw mutants of files; the first ones are the same however many are drawn."""
    draw = np.random.default_rng(SEED)
    for number in range(count):
        mutant = bytearray(originals[number % len(originals)])
        for _ in range(int(draw.integers(1, 4))):
            _MUTATIONS[int(draw.integers(len(_MUTATIONS)))](mutant, draw)
        yield bytes(mutant)


def _choose_place(mutant: bytearray, draw: np.random.Generator) -> int:
    limit = min(_HEAD_BYTES, len(mutant)) if draw.random() < 0.5 else len(mutant)
    return int(draw.integers(max(limit, 1)))


def _flip_bits(mutant: bytearray, draw: np.random.Generator) -> None:
    for _ in range(int(draw.integers(1, 30))):
        at = _choose_place(mutant, draw)
        if at < len(mutant):
            mutant[at] ^= 1 << int(draw.integers(8))


def _overwrite_field(mutant: bytearray, draw: np.random.Generator) -> None:
    size = int(draw.choice([1, 2, 4, 8]))
    value = _EXTREMES[int(draw.integers(len(_EXTREMES)))] % 256**size
    at = _choose_place(mutant, draw)
    mutant[at : at + size] = value.to_bytes(size, "little" if draw.random() < 0.5 else "big")


def _truncate(mutant: bytearray, draw: np.random.Generator) -> None:
    del mutant[_choose_place(mutant, draw) :]


def _swap_chunks(mutant: bytearray, draw: np.random.Generator) -> None:
    size = int(draw.integers(1, 2_000))
    first, second = sorted(_choose_place(mutant, draw) for _ in range(2))
    size = min(size, second - first, len(mutant) - second)
    mutant[first : first + size], mutant[second : second + size] = (
        mutant[second : second + size],
        mutant[first : first + size],
    )


def _repeat_chunk(mutant: bytearray, draw: np.random.Generator) -> None:
    at, size = _choose_place(mutant, draw), int(draw.integers(1, 5_000))
    mutant[at:at] = mutant[at : at + size]


def _insert_noise(mutant: bytearray, draw: np.random.Generator) -> None:
    at, size = _choose_place(mutant, draw), int(draw.integers(1, 500))
    mutant[at:at] = draw.bytes(size)


_MUTATIONS: Final = (_flip_bits, _overwrite_field, _truncate, _swap_chunks, _repeat_chunk, _insert_noise)


class MutantReader:
    """Reads files in a process without rights; after each death of the process, a new one is started.

    Parameters
    ----------
    folder
        Where the file is kept that the process reads.
    memory_mb
        The memory that the process may use.
    limit_s
        After this time without a reply, the process is killed.
    """

    def __init__(self, folder: Path, memory_mb: int, limit_s: float) -> None:
        self._path = folder / "mutant"
        self._path.touch()
        self._limits = json.dumps({"memory_bytes": memory_mb * 2**20, "cpu_s": 10_000})
        self._limit_s = limit_s
        self.deaths = 0
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(self, content: bytes, options: dict[str, Any]) -> dict[str, Any] | None:
        """Inspect and decode a file; ``None`` if the process has died of it."""
        self._path.write_bytes(content)
        try:
            self._connection.send(json.dumps(options).encode())
            reply = self._connection.recv(_REPLY_BYTES)
        except ConnectionError:
            reply = b""
        if reply:
            answer: dict[str, Any] = json.loads(reply)
            return answer
        self.deaths += 1
        self._stop()
        self._start()
        return None

    def _start(self) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.settimeout(self._limit_s)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", mutant_reader.__file__, self._limits],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
        with self._path.open("rb") as file:
            socket.send_fds(self._connection, [b"x"], [file.fileno()])

    def _stop(self) -> None:
        self._connection.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
