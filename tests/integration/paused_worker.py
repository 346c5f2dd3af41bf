"""A real worker whose batch pauses at a position of a sequence until the test lets the batch continue.

The worker is started as ``python -m tests.integration.paused_worker``, with the arguments of ``python -m worker``.
While the batch is paused, heartbeats are sent and checkpoints are stored. During the pause the test can add jobs to the
batch, stop jobs, or kill the worker.
"""

import os
import threading
from pathlib import Path
from typing import Final

from shared.errors import JobStoppedError
from worker import __main__ as command
from worker.engines.musicgen import music_checkpoint
from worker.engines.musicgen.decoding.scheduler import BatchScheduler

PAUSE_AT: Final = "PAUSED_WORKER_POSITION"
"""The environment variable with a position; the batch pauses when one of its sequences has reached this position."""
RESUME: Final = "PAUSED_WORKER_RESUME"
"""The environment variable with the path of a file; all batches continue when the test has created this file."""
CHECK_INTERVAL_S: Final = 0.02

step = BatchScheduler._step


def pause_and_step(scheduler: BatchScheduler) -> None:
    """Do a step; if a sequence has reached the position, first wait until the test lets the batch continue."""
    pause_at, resume, pause = int(os.environ[PAUSE_AT]), Path(os.environ[RESUME]), threading.Event()
    if any(active.sequence.position >= pause_at for active in scheduler._active):
        while not resume.exists() and not must_stop(scheduler):
            pause.wait(CHECK_INTERVAL_S)
    step(scheduler)


def must_stop(scheduler: BatchScheduler) -> bool:
    """Tell whether a job of the batch must stop."""
    try:
        for request in [*scheduler._requests]:
            request.call_on_step()
    except JobStoppedError:  # the scheduler ends this job before the next step
        return True
    return False


if __name__ == "__main__":
    music_checkpoint.CHECKPOINT_INTERVAL_S = 0.0  # type: ignore[misc]  # the constant is final in the service
    BatchScheduler._step = pause_and_step  # type: ignore[assignment]
    command.main()
