"""Metrics for Prometheus. Each scrape reads the database, so any web process can report the metrics of the instance."""

from collections.abc import Iterator
from itertools import product

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.database import queries, worker_queries
from shared.jobs import DeviceClass, Kind, State
from shared.services import Services
from web.context import get_context

blueprint = Blueprint("metrics", __name__)


class JobMetrics(Collector):
    """The metrics that an autoscaler needs: jobs that have not ended, and live workers. Ended jobs are not read."""

    def __init__(self, services: Services) -> None:
        self._database = services.database
        self._max_wait_s = services.settings.stalled_worker_shown_s

    def describe(self) -> Iterator[Metric]:
        """Describe no metric, so that registering the collector does not query the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read the metrics."""
        with self._database.reading() as session:
            loads = queries.measure_queue_load(session)
            workers = worker_queries.list_live_workers(session)
            busy_names = worker_queries.list_busy_workers(session)
            stalled_workers = worker_queries.list_stalled_workers(session, self._max_wait_s)
        yield from _build_load_metrics(loads)
        alive = GaugeMetricFamily("mindjobs_workers_alive", "Live workers.", labels=["device"])
        busy = GaugeMetricFamily("mindjobs_workers_busy", "Live workers that hold a job.", labels=["device"])
        stalled = GaugeMetricFamily(
            "mindjobs_workers_stalled", "Idle workers that leave jobs waiting that they could run.", labels=["device"]
        )
        for device in DeviceClass:
            names = {worker.name for worker in workers if worker.device == device}
            alive.add_metric([device], len(names))
            busy.add_metric([device], len(names & busy_names))
            stalled.add_metric([device], sum(worker.device == device for worker in stalled_workers))
        yield from (alive, busy, stalled)


def make_registry(services: Services) -> CollectorRegistry:
    """Make the registry that ``/metrics`` reads."""
    registry = CollectorRegistry()
    registry.register(JobMetrics(services))
    return registry


@blueprint.get("/metrics")
def show_metrics() -> Response:
    """Show the metrics of jobs and workers, in the format of Prometheus."""
    return Response(generate_latest(get_context().metrics), content_type=CONTENT_TYPE_LATEST)


def _build_load_metrics(loads: list[queries.QueueLoad]) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("mindjobs_jobs", "Jobs that have not ended.", labels=["kind", "device", "state"])
    oldest = GaugeMetricFamily(
        "mindjobs_oldest_queued_seconds", "Time since the oldest queued job was submitted.", labels=["kind", "device"]
    )
    loads_by_queue = {(load.kind, load.device, load.state): load for load in loads}
    # Prometheus does not treat a missing series as zero, so every combination of kind and device is always reported.
    expected = set(product(Kind, DeviceClass))
    for kind, device in sorted(expected | {(load.kind, load.device) for load in loads}):
        for state in (State.QUEUED, State.RUNNING):
            load = loads_by_queue.get((kind, device, state))
            jobs.add_metric([kind, device, state], load.jobs if load else 0)
        queued = loads_by_queue.get((kind, device, State.QUEUED))
        oldest.add_metric([kind, device], queued.oldest_s if queued else 0)
    yield from (jobs, oldest)
