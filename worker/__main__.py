"""Start a worker: ``python -m worker --device cpu:0 --kinds knn,musicgen``."""

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence

from celery.platforms import SecurityWarning

from shared.errors import MindjobsError
from shared.jobs import Kind, name_queue
from shared.logs import set_up_logging
from shared.services import Services
from shared.settings import load_settings
from shared.state_folder import protect_state
from worker import devices
from worker.celery_app import make_app
from worker.devices import Device
from worker.engines import ENGINES
from worker.registration import WorkerRegistration, name_worker
from worker.transport import count_untaken
from worker.watchdog import ChildStatus, Watchdog

logger = logging.getLogger(__name__)


def parse_kinds(names: str) -> list[Kind]:
    """Parse a list of kinds, such as ``knn,musicgen``, for argparse.

    Raises
    ------
    argparse.ArgumentTypeError
        A kind is unknown or is given twice; the message lists the known kinds.
    """
    listed = [name.strip() for name in names.split(",")]
    unknown = [name for name in listed if name not in set(Kind)]
    if unknown or len(set(listed)) < len(listed):
        raise argparse.ArgumentTypeError(
            f"{names!r}: give one or more of {', '.join(Kind)}, separated by commas, and none of them twice"
        )
    return [Kind(name) for name in listed]


def parse_device(name: str) -> Device:
    """Parse the name of a device, such as ``cpu:0``, for argparse."""
    try:
        return Device.parse(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m worker", description="Run jobs on one device.")
    parser.add_argument("--device", type=parse_device, required=True, help="cpu:N, gpu:N or ascend:N")
    parser.add_argument("--kinds", type=parse_kinds, required=True, help="the kinds of job to run, separated by commas")
    return parser


def list_queues(device: Device, kinds: Sequence[Kind]) -> list[str]:
    """List the queues that a worker listens to; all workers of a device class share the queues of that class."""
    return [name_queue(kind, device.device_class) for kind in kinds]


def run_worker(device: Device, kinds: list[Kind]) -> int:
    """Run jobs until a signal stops the worker: SIGTERM lets the running jobs end first, SIGQUIT queues them again.

    Returns
    -------
    The exit status.
    """
    settings = load_settings()
    protect_state(settings)
    set_up_logging(settings)
    devices.pin_process(device, settings.cpu_shares)
    backends = {kind: ENGINES[kind].choose_backend(device.device_class, settings) for kind in kinds}
    for probe in dict.fromkeys(backend.probe for backend in backends.values()):
        probe(device)
    name = name_worker(device, kinds)
    services = Services.open(settings)
    # As root, Celery warns, because a message in pickle format could run any code. The wake-up messages here cannot:
    # they are JSON and contain only a job's id.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    status = ChildStatus()
    app = make_app(settings, device, kinds, name, status)
    registration = WorkerRegistration(
        services.database,
        name=name,
        device=device,
        backends=backends,
        heartbeat_interval_s=settings.worker_heartbeat_s,
        stalled_worker_s=settings.stalled_worker_s,
        status=status,
    )
    watchdog = Watchdog(status, settings, count_untaken)
    with registration, watchdog:
        worker = app.Worker(
            hostname=name,
            queues=list_queues(device, kinds),
            pool="prefork",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
        )
        worker.start()
    services.close()
    return int(worker.exitcode or 0)


def main() -> None:
    """Run a worker; if it cannot start, exit with the reason."""
    arguments = make_parser().parse_args()
    try:
        sys.exit(run_worker(arguments.device, arguments.kinds))
    except MindjobsError as error:
        sys.exit(f"mindjobs worker: {error.title}: {error.detail}")


if __name__ == "__main__":
    main()
