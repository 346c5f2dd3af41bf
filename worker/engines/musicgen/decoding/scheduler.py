"""The decode loop: it runs the sequences of several jobs in one batch. Sequences join and leave between two steps."""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.engines.musicgen.decoding.decoder import Decoder
from worker.engines.musicgen.decoding.sequence import TokenSequence

ON_TOKENS_INTERVAL_S: Final = 0.25
"""The interval at which ``on_tokens`` of a job is called while the job waits for its samples."""

Callback = Callable[[], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchLimits:
    """The limits of how much is decoded in one batch.

    Parameters
    ----------
    max_slots
        Maximum number of decoder slots; a sequence with guidance has two slots. ``None`` for no limit.
    max_cache_bytes
        Maximum memory of the keys and values of all slots together.
    """

    max_slots: int | None
    max_cache_bytes: int


class BatchEvent(StrEnum):
    """The events at which the observer of a scheduler is called."""

    QUEUED = "queued"  # the sequences of a job were queued; called in the job's thread
    STEP = "step"  # a step begins; called in the decoding thread
    IDLE = "idle"  # no job is left; called in the decoding thread, which exits


@dataclass(frozen=True)
class BatchState:
    """How many jobs, sequences and slots a scheduler has at one moment."""

    requests: int
    """Jobs that wait for their samples."""
    waiting: int
    """Sequences that wait for slots."""
    active: int
    """Sequences that have slots."""
    slots: int
    """Slots that the active sequences occupy."""


BatchObserver = Callable[[BatchEvent, BatchState], None]


def ignore_event(event: BatchEvent, state: BatchState) -> None:
    """Do nothing: the observer of a scheduler that is not observed."""


@dataclass(eq=False)
class _Request:
    """The sequences of one job."""

    sequences: Sequence[TokenSequence]
    on_step: Callback
    on_compile: Callback
    done: "Future[None]" = field(default_factory=Future)
    error: Exception | None = None
    """An error that ends the request before the next step; ``None`` if there is none."""

    def call_on_step(self) -> None:
        """Call ``on_step``, then raise ``error`` if there is one."""
        self.on_step()
        if self.error is not None:
            raise self.error

    @property
    def finished(self) -> bool:
        return all(sequence.finished for sequence in self.sequences)


@dataclass(eq=False)
class _ActiveSequence:
    """A sequence that has slots: one slot without guidance; with guidance two, the second of which has no text."""

    request: _Request
    sequence: TokenSequence
    slots: list[int]
    chunks: Iterator[bool]
    """An iterator; each call of ``next`` lets the model read one chunk of known tokens."""

    def read_known_chunk(self) -> bool:
        """Let the model read the next chunk of known tokens; return ``False`` if no chunk is left."""
        return next(self.chunks, False)


class BatchScheduler:
    """Decodes for several jobs at once, each of which waits in a thread of its own.

    One thread, the decoding thread, runs while there is something to generate. Only
    this thread uses the decoder. Sequences are admitted in the order in which they
    were queued, as soon as they fit into the limits, and leave the batch as soon as
    they are finished. The head of the queue is never skipped: while it does not fit,
    no sequence is admitted. If the batch is empty, one sequence is admitted even if
    it exceeds the limits. If a job is stopped, or its logits are not finite, only
    the sequences of this job end.

    Parameters
    ----------
    observer
        Called for each event. The scheduler is locked during the call, so that the states arrive in the order of the
        events. The observer must return at once, must not call the scheduler, and must not raise an exception.
    """

    def __init__(self, decoder: Decoder, limits: BatchLimits, observer: BatchObserver = ignore_event) -> None:
        self._decoder = decoder
        self._limits = limits
        self._observer = observer
        self._max_slots = math.inf if limits.max_slots is None else limits.max_slots
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._requests: list[_Request] = []
        self._waiting: deque[tuple[_Request, TokenSequence]] = deque()
        self._active: list[_ActiveSequence] = []
        decoder.on_compile = self._on_compile

    def generate(
        self, sequences: Sequence[TokenSequence], on_step: Callback, on_compile: Callback, on_tokens: Callback
    ) -> None:
        """Generate every sequence to its end.

        Parameters
        ----------
        on_step
            Called before each step, in the decoding thread; if it raises an exception, the job ends.
        on_compile
            Called before something is compiled, in the decoding thread; if it raises an exception, the job ends.
        on_tokens
            Called about every ``ON_TOKENS_INTERVAL_S``, in the thread that called ``generate``.

        Raises
        ------
        JobFailedError
            The logits have NaN or infinite values.
        Exception
            What ``on_step``, ``on_compile`` or the decoder raised.
        """
        request = _Request(sequences, on_step, on_compile)
        with self._lock:
            self._requests.append(request)
            self._waiting.extend((request, sequence) for sequence in sequences if not sequence.finished)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
                self._thread.start()
            self._notify(BatchEvent.QUEUED)
        while not wait([request.done], ON_TOKENS_INTERVAL_S).done:
            on_tokens()
        request.done.result()

    def _run(self) -> None:
        while self._schedule():
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 - raised in every job of this step; later jobs may succeed
                for request in {active.request: None for active in self._active}:
                    self._end(request, error)

    def _schedule(self) -> bool:
        """Remove finished requests and admit the waiting sequences that fit into the limits.

        Returns ``False`` if no request is left; the decoding thread then exits.
        """
        for request in [*self._requests]:
            try:
                request.call_on_step()
            except Exception as error:  # noqa: BLE001 - raised again in the thread of the job
                self._end(request, error)
            else:
                if request.finished:
                    self._end(request, None)
        with self._lock:
            if not self._requests:
                self._thread = None
                self._notify(BatchEvent.IDLE)
                return False
            admitted = [self._waiting.popleft() for _ in range(self._count_admissible())]
        for request, sequence in admitted:
            if not request.done.done():  # an earlier sequence of the job may have failed, which ends the job
                self._admit(request, sequence)
        return True

    def _count_admissible(self) -> int:
        """Count how many waiting sequences, starting at the head of the queue, fit into the limits."""
        slots = sum(len(active.slots) for active in self._active)
        cache_bytes = sum(self._count_bytes(active.sequence) for active in self._active)
        admissible = 0
        for _, sequence in self._waiting:
            slots += len(sequence.slot_texts)
            cache_bytes += self._count_bytes(sequence)
            alone = not self._active and not admissible
            if not alone and (slots > self._max_slots or cache_bytes > self._limits.max_cache_bytes):
                break
            admissible += 1
        return admissible

    def _count_bytes(self, sequence: TokenSequence) -> int:
        return len(sequence.slot_texts) * self._decoder.count_bytes(sequence.length)

    def _admit(self, request: _Request, sequence: TokenSequence) -> None:
        slots: list[int] = []
        self._active.append(_ActiveSequence(request, sequence, slots, self._read_known(slots, sequence)))
        try:
            for text in sequence.slot_texts:
                # Each slot is appended as soon as it is admitted. If the next admission fails, ``_end`` drops the slots
                # that are in the list.
                slots.append(self._decoder.admit(text, sequence.length))  # noqa: PERF401
        except Exception as error:  # noqa: BLE001 - raised again in the thread of the job
            self._end(request, error)

    def _read_known(self, slots: Sequence[int], sequence: TokenSequence) -> Iterator[bool]:
        """Read all known positions except the last one into the slots, one chunk per iteration.

        The last known position is read by the first step, because its logits are needed.
        """
        for slot in slots:
            for start in range(0, sequence.position, self._decoder.max_chunk):
                stop = min(start + self._decoder.max_chunk, sequence.position)
                self._decoder.feed(slot, sequence.tokens[:, start:stop], start)
                yield True

    def _step(self) -> None:
        """Advance every active sequence.

        A sequence that still has known tokens to read reads one chunk of them; every other sequence takes a step.
        """
        with self._lock:
            self._notify(BatchEvent.STEP)
        stepping = [active for active in self._active if not active.read_known_chunk()]
        if not stepping:
            return
        counts = [len(active.slots) for active in stepping]
        tokens = np.stack([active.sequence.tokens[:, active.sequence.position] for active in stepping])
        positions = np.array([active.sequence.position for active in stepping], dtype=np.int32)
        logits = self._decoder.step(
            [slot for active in stepping for slot in active.slots],
            np.repeat(tokens, counts, axis=0),
            positions.repeat(counts),
        )
        for active, own in zip(stepping, np.split(logits, np.cumsum(counts)[:-1]), strict=True):
            if active in self._active:  # an earlier sequence of the job may have failed, which ends the job
                self._extend(active, own)

    def _extend(self, active: _ActiveSequence, logits: NDArray[np.float32]) -> None:
        try:
            active.sequence.extend(*logits)
        except Exception as error:  # noqa: BLE001 - raised again in the thread of the job
            self._end(active.request, error)
            return
        if active.sequence.finished:
            self._free(active)

    def _end(self, request: _Request, error: Exception | None) -> None:
        """Remove a request with all of its sequences, and wake the thread of its job."""
        for active in [active for active in self._active if active.request is request]:
            self._free(active)
        with self._lock:
            if request not in self._requests:
                return
            self._requests.remove(request)
            self._waiting = deque(entry for entry in self._waiting if entry[0] is not request)
        if error is None:
            request.done.set_result(None)
        else:
            request.done.set_exception(error)

    def _free(self, active: _ActiveSequence) -> None:
        self._active.remove(active)
        for slot in active.slots:
            try:
                self._decoder.drop(slot)
            except Exception:  # the job that waits must still get its result
                logger.exception("a slot of the decoder could not be dropped")

    def _on_compile(self, *, compiling: bool) -> None:
        for request in [*self._requests] if compiling else []:
            try:
                request.on_compile()
            except Exception as error:  # noqa: BLE001 - raised again in the thread of the job
                # The model is running now, so the request is ended before the next step.
                request.error = error

    def _notify(self, event: BatchEvent) -> None:
        slots = sum(len(active.slots) for active in self._active)
        self._observer(event, BatchState(len(self._requests), len(self._waiting), len(self._active), slots))
