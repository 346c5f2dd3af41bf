"""The processes of a complete instance on one machine, and the order in which they start and stop."""

import sys
from dataclasses import dataclass

from shared.instance import redis_server
from shared.jobs import Kind
from shared.settings import Settings


@dataclass(frozen=True)
class Process:
    """One process of an instance.

    Parameters
    ----------
    command
        The command line of the process, which runs in the folder of the repository.
    priority
        Processes with a lower number start earlier and stop later.
    stop_signal, stop_s
        The signal that stops the process, and the time after which the process is killed if it has not stopped.
        Processes with the same priority stop at the same time, so stopping them takes at most the longest of their
        ``stop_s``. The sum of these longest times over all priorities must stay below 15 s.
    once
        Whether the process ends by itself.
    """

    name: str
    command: tuple[str, ...]
    priority: int
    stop_signal: str = "TERM"
    stop_s: int = 2
    once: bool = False


def list_processes(settings: Settings) -> list[Process]:
    """List the processes of a complete instance on one machine."""
    python = (sys.executable, "-m")
    processes = [
        Process("sweeper", (*python, "shared.maintenance"), priority=20),
        Process("web", (*python, "gunicorn", "--config", "python:web.server"), priority=30, stop_s=3),
        # One worker per kind, so that a knn job of one second never waits for a music job of ten minutes.
        # SIGQUIT returns a running job to the queue; SIGTERM would wait for the end of the job.
        *(
            Process(
                f"worker-{kind}",
                (*python, "worker", "--device", "cpu:0", "--kinds", kind),
                priority=40,
                stop_signal="QUIT",
                stop_s=5,
            )
            for kind in Kind
        ),
        Process("ready", (*python, "shared.instance.ready"), priority=50, stop_s=1, once=True),
    ]
    if settings.owns_redis:
        processes.append(Process("redis", tuple(redis_server.list_command(settings)), priority=10))
    return processes
