"""The decode loop: samples of several jobs side by side, each coming and leaving between two steps."""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.decoding.decoder import Decoder
from worker.engines.musicgen.decoding.sequence import TokenSequence

ON_TOKENS_INTERVAL_S: Final = 0.25
"""How often a job that waits for its samples looks whether to keep what it has."""

Callback = Callable[[], None]
"""Called before each step while a job has samples here; may raise, and ends that job's part alone."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchLimits:
    """How much is decoded side by side.

    Parameters
    ----------
    max_slots
        Rows of the decoder; a sample that is guided has two. ``None`` for as many as pay.
    max_cache_bytes
        What the rows' keys and values take together.
    """

    max_slots: int | None
    max_cache_bytes: int


@dataclass(eq=False)
class _Request:
    """The samples of one job."""

    tracks: Sequence[TokenSequence]
    tell: Callback
    announce: Callable[[], None]
    done: "Future[None]" = field(default_factory=Future)
    stopped: Exception | None = None
    """What ends its part before the next step."""

    def ask(self) -> None:
        """Raise what ends its part."""
        self.tell()
        if self.stopped is not None:
            raise self.stopped

    @property
    def finished(self) -> bool:
        return all(track.finished for track in self.tracks)


@dataclass(eq=False)
class _ActiveSequence:
    """A sample's rows: one, and another without the text where it is guided."""

    party: _Request
    track: TokenSequence
    rows: list[int]
    unread: Iterator[None]

    @property
    def reading(self) -> bool:
        """Let the rows read a chunk of what is known already; false when nothing is left."""
        return next(self.unread, self) is not self


class BatchScheduler:
    """Generates for several jobs at once, each of which waits in a thread of its own.

    A thread runs for as long as there is something to generate; it alone uses the
    decoder. Samples enter in the order in which they were asked for, as soon as
    there is room, and leave as soon as they are finished. What happens to one job,
    a stop or logits that are no numbers, happens to its samples alone.
    One sample is always let in.
    """

    def __init__(self, decoder: Decoder, limits: BatchLimits) -> None:
        self._decoder = decoder
        self._limits = limits
        self._max_slots = math.inf if limits.max_slots is None else limits.max_slots
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._parties: list[_Request] = []
        self._waiting: deque[tuple[_Request, TokenSequence]] = deque()
        self._seats: list[_ActiveSequence] = []
        decoder.announce = self._announce

    def generate(self, tracks: Sequence[TokenSequence], tell: Callback, announce: Callback, keep: Callback) -> None:
        """Generate every track to its end.

        Parameters
        ----------
        tell
            Called before each step, in another thread; may raise.
        announce
            Called when something is compiled first.
        keep
            Called now and then, in this thread.

        Raises
        ------
        JobFailedError
            Logits are not numbers.
        Exception
            What ``tell`` has raised.
        """
        party = _Request(tracks, tell, announce)
        with self._lock:
            self._parties.append(party)
            self._waiting.extend((party, track) for track in tracks if not track.finished)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
                self._thread.start()
        while not wait([party.done], ON_TOKENS_INTERVAL_S).done:
            keep()
        party.done.result()

    def _run(self) -> None:
        while self._open():
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - told to every job that computes; the next ones may do better
                for party in {seat.party: None for seat in self._seats}:
                    self._leave(party, error)

    def _open(self) -> bool:
        """Let the finished go, and those in that there is room for; false, and the thread's end, when none is left."""
        for party in [*self._parties]:
            try:
                party.ask()
            except Exception as error:  # noqa: BLE001 - the job's own, which it gets back
                self._leave(party, error)
            else:
                if party.finished:
                    self._leave(party, None)
        with self._lock:
            if not self._parties:
                self._thread = None
                return False
            entering = [self._waiting.popleft() for _ in range(self._count_entering())]
        for party, track in entering:
            if not party.done.done():  # a sample before it could not enter, and took its job with it
                self._admit(party, track)
        return True

    def _count_entering(self) -> int:
        rows = sum(len(seat.rows) for seat in self._seats)
        taken = sum(self._count_bytes(seat.track) for seat in self._seats)
        entering = 0
        for _, track in self._waiting:
            rows += len(track.texts)
            taken += self._count_bytes(track)
            alone = not self._seats and not entering
            if not alone and (rows > self._max_slots or taken > self._limits.max_cache_bytes):
                break
            entering += 1
        return entering

    def _count_bytes(self, track: TokenSequence) -> int:
        return len(track.texts) * self._decoder.count_bytes(track.length)

    def _admit(self, party: _Request, track: TokenSequence) -> None:
        rows: list[int] = []
        self._seats.append(_ActiveSequence(party, track, rows, self._read_known(rows, track)))
        try:
            for text in track.texts:
                rows.append(self._decoder.admit(text, track.length))  # noqa: PERF401 - those before one that fails are dropped
        except Exception as error:  # noqa: BLE001 - the job's own, which it gets back
            self._leave(party, error)

    def _read_known(self, rows: Sequence[int], track: TokenSequence) -> Iterator[None]:
        """Let rows read all that is known but the last position, whose logits the first step asks for."""
        for row in rows:
            for start in range(0, track.position, self._decoder.chunk):
                stop = min(start + self._decoder.chunk, track.position)
                self._decoder.feed(row, track.tokens[:, start:stop], start)
                yield

    def _turn(self) -> None:
        """Let who has something known read a chunk of it, and all others a step."""
        stepping = [seat for seat in self._seats if not seat.reading]
        if not stepping:
            return
        counts = [len(seat.rows) for seat in stepping]
        tokens = np.stack([seat.track.tokens[:, seat.track.position] for seat in stepping])
        positions = np.array([seat.track.position for seat in stepping], dtype=np.int32)
        logits = self._decoder.step(
            [row for seat in stepping for row in seat.rows], np.repeat(tokens, counts, axis=0), positions.repeat(counts)
        )
        for seat, own in zip(stepping, np.split(logits, np.cumsum(counts)[:-1]), strict=True):
            if seat in self._seats:  # one before it may have ended their job
                self._extend(seat, own)

    def _extend(self, seat: _ActiveSequence, logits: NDArray[np.float32]) -> None:
        try:
            seat.track.extend(*logits)
        except Exception as error:  # noqa: BLE001 - the job's own, which it gets back
            self._leave(seat.party, error)
            return
        if seat.track.finished:
            self._free(seat)

    def _leave(self, party: _Request, error: Exception | None) -> None:
        for seat in [seat for seat in self._seats if seat.party is party]:
            self._free(seat)
        with self._lock:
            if party not in self._parties:
                return
            self._parties.remove(party)
            self._waiting = deque(entry for entry in self._waiting if entry[0] is not party)
        if error is None:
            party.done.set_result(None)
        else:
            party.done.set_exception(error)

    def _free(self, seat: _ActiveSequence) -> None:
        self._seats.remove(seat)
        for row in seat.rows:
            try:
                self._decoder.drop(row)
            except Exception:  # whoever waits for an answer must get it
                logger.exception("a row of the decoder cannot be dropped")

    def _announce(self, *, compiling: bool) -> None:
        for party in [*self._parties] if compiling else []:
            try:
                party.announce()
            except Exception as error:  # noqa: BLE001 - told in its turn, when no row is being computed
                party.stopped = error
