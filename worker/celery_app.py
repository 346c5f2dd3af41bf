"""The Celery side of a worker: its one task, and how its child process is prepared."""

import logging
import os
import signal

from celery import Celery, signals

from shared.broker import TASK, make_celery
from shared.jobs import Kind
from shared.logs import set_up_logging
from shared.parent_process import end_with_parent
from shared.services import Services
from shared.settings import Settings
from worker.devices import Device
from worker.engines import ENGINES
from worker.runner import Runner
from worker.transport import WakeUpRequest, register_transport
from worker.watchdog import ChildStatus

logger = logging.getLogger(__name__)


class Child:
    """What the worker's one child process keeps between tasks; there is no runner in the parent process."""

    runner: Runner

    def __init__(self, settings: Settings, device: Device, kinds: list[Kind], name: str, status: ChildStatus) -> None:
        self._settings = settings
        self._device = device
        self._kinds = kinds
        self._name = name
        self._status = status
        self._parent = os.getpid()

    def start(self, **_: object) -> None:
        """Open the child's own connections, after the fork, and load what the first job needs.

        If this method raised an error, Celery would only log it, and continue
        with a child that cannot run any job. So, on an error, this method itself
        ends the worker.
        """
        end_with_parent(self._parent)  # Celery requests the same, but does not notice if the parent has ended before
        set_up_logging(self._settings)
        try:
            device_class = self._device.device_class
            backends = [ENGINES[kind].choose_backend(device_class, self._settings) for kind in self._kinds]
            for prepare_process in dict.fromkeys(backend.prepare_process for backend in backends):
                prepare_process(self._device)
            self.runner = Runner(Services.open(self._settings), self._device, self._kinds, self._name, self._status)
            self.runner.prepare()
        except Exception:
            logger.exception("the child process for %s cannot be prepared; the worker stops", self._device)
            os.kill(os.getppid(), signal.SIGTERM)
            os._exit(1)
        self._status.mark_ready()
        logger.info("ready on %s for %s", self._device, ", ".join(self._kinds))


def make_app(settings: Settings, device: Device, kinds: list[Kind], name: str, status: ChildStatus) -> Celery:
    """Make the worker's Celery application."""
    app = make_celery(settings)
    register_transport()
    child = Child(settings, device, kinds, name, status)
    # weak=False: nothing else refers to these functions, so weak references to them would be lost.
    signals.worker_process_init.connect(child.start, weak=False)
    signals.worker_shutting_down.connect(lambda **_: status.request_shutdown(), weak=False)
    signals.setup_logging.connect(lambda **_: set_up_logging(settings), weak=False)

    @app.task(name=TASK, Request=WakeUpRequest)  # type: ignore[untyped-decorator]  # Celery has no types
    def work(job_id: str) -> None:
        """Handle a wake-up message: run the queued jobs, best first, even if the job in the message is not the best."""
        logger.debug("woken for job %s", job_id)
        child.runner.run_queued_jobs()

    return app
