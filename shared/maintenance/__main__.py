"""The process of the sweeper, which repairs what crashes leave behind: ``python -m shared.maintenance``.

Any number of sweepers may run at the same time. Every few seconds a sweeper rescues jobs, removes the checkpoints of
ended jobs, and sends due messages to webhooks. Every hour it deletes old rows and files. One sweeper of each machine
inspects uploads, as soon as they arrive.
"""

import logging
import signal
import threading
import time
from typing import Final

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from shared.inspection.runner import InspectionRunner
from shared.logs import set_up_logging
from shared.maintenance import cleanup, rescue
from shared.services import Services
from shared.settings import load_settings
from shared.state_folder import protect_state
from shared.webhooks.deliverer import Deliverer

CLEANUP_INTERVAL_S: Final = 3_600.0

logger = logging.getLogger(__name__)


def sweep(services: Services) -> None:
    """Rescue jobs and remove checkpoints, once."""
    rescue.rescue_jobs(services)
    cleanup.remove_checkpoints(services)  # the last step, since a failing file store must not delay the jobs


def main() -> None:
    """Sweep until the process gets a signal to stop."""
    settings = load_settings()
    protect_state(settings)
    set_up_logging(settings)
    services = Services.open(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # The cleanup, the delivery and the inspections may take long, and lost jobs must not wait for them, so each has its
    # own thread.
    for work in (_clean_up_forever, _deliver_forever, _inspect_forever):
        threading.Thread(target=work, args=(services,), daemon=True).start()
    while not stop.is_set():
        try:
            sweep(services)
        except (SQLAlchemyError, RedisError, OSError) as error:
            logger.warning("the sweep failed, the next one tries again: %s", error)
        stop.wait(settings.sweep_s)
    services.close()


def _clean_up_forever(services: Services) -> None:
    while True:
        try:
            cleanup.clean_up(services)
        except Exception:  # a bad file or row must not end this thread
            logger.exception("the cleanup failed, the next one tries again")
        time.sleep(CLEANUP_INTERVAL_S)


def _deliver_forever(services: Services) -> None:
    deliverer = Deliverer(services)
    while True:
        try:
            deliverer.deliver_due()
        except Exception:  # a message that cannot be delivered must not end this thread
            logger.exception("sending to webhooks failed, the next round tries again")
        time.sleep(services.settings.sweep_s)


def _inspect_forever(services: Services) -> None:
    while True:
        try:
            InspectionRunner(services).run()
        except Exception:  # an upload that cannot be inspected must not end this thread
            logger.exception("inspecting uploads failed, the next round tries again")
        time.sleep(services.settings.sweep_s)


if __name__ == "__main__":
    main()
