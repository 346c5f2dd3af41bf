"""JobMetrics for Prometheus, read from the database when they are asked for: so any process answers for all."""

from collections.abc import Iterator
from itertools import product

from flask import Blueprint, Flask, Response, current_app
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.database import queries
from shared.database.connection import Database
from shared.jobs import DeviceClass, Kind, State

blueprint = Blueprint("metrics", __name__)


class JobMetrics(Collector):
    """What an autoscaler goes by; nothing that has ended is looked at."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterator[Metric]:
        """Name no metric: to register should not ask the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read the figures."""
        with self._database.reading() as session:
            loads = queries.measure_queue_load(session)
            workers = queries.list_live_workers(session)
            busy = queries.list_busy_workers(session)
        yield from _build_load_metrics(loads)
        alive = GaugeMetricFamily("mindjobs_workers_alive", "Workers that are there.", labels=["device"])
        at_work = GaugeMetricFamily("mindjobs_workers_busy", "Of these, those that hold a job.", labels=["device"])
        for device in DeviceClass:
            names = {worker.name for worker in workers if worker.device == device}
            alive.add_metric([device], len(names))
            at_work.add_metric([device], len(names & busy))
        yield from (alive, at_work)


def init_app(app: Flask) -> None:
    """Answer at ``/metrics``."""
    registry = CollectorRegistry()
    registry.register(JobMetrics(app.extensions["mindjobs"].database))
    app.extensions["mindjobs.metrics"] = registry
    app.register_blueprint(blueprint)


@blueprint.get("/metrics")
def show_metrics() -> Response:
    """Show jobs and workers in figures, as Prometheus reads them."""
    return Response(generate_latest(current_app.extensions["mindjobs.metrics"]), content_type=CONTENT_TYPE_LATEST)


def _build_load_metrics(loads: list[queries.QueueLoad]) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("mindjobs_jobs", "Jobs that have not ended.", labels=["kind", "device", "state"])
    oldest = GaugeMetricFamily(
        "mindjobs_oldest_queued_seconds", "Time since the oldest queued job was submitted.", labels=["kind", "device"]
    )
    found = {(load.kind, load.device, load.state): load for load in loads}
    # A figure that is not there is no zero, so those that may be asked for always are.
    usual = set(product(Kind, DeviceClass))
    for kind, device in sorted(usual | {(load.kind, load.device) for load in loads}):
        for state in (State.QUEUED, State.RUNNING):
            load = found.get((kind, device, state))
            jobs.add_metric([kind, device, state], load.jobs if load else 0)
        queued = found.get((kind, device, State.QUEUED))
        oldest.add_metric([kind, device], queued.oldest_s if queued else 0)
    yield from (jobs, oldest)
