"""If wake-up messages are lost, late or sent twice, or if Redis hangs, no job is lost and nothing else hangs."""

import signal
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from redis.exceptions import RedisError

from shared.broker import CONNECT_TIMEOUT_S, MAX_PENDING_WAKEUPS, RESPONSE_TIMEOUT_S
from shared.jobs import DeviceClass, Kind, State
from shared.maintenance import __main__
from shared.services import Services
from shared.settings import Settings
from shared.submission import submit
from tests.integration.conftest import Gate, StartProcess
from tests.support.processes import ServiceProcess
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until
from web import create_app
from web.context import get_context

QUEUE = (Kind.MUSICGEN, DeviceClass.CPU)


@pytest.fixture
def settings(settings: Settings, own_redis: RedisServer) -> Settings:
    """Settings with a Redis of this test alone, which the test can kill."""
    return settings.model_copy(update={"redis_url": own_redis.url})


def submit_gates(make_gate: Callable[[], Gate], count: int) -> list[Gate]:
    gates = [make_gate() for _ in range(count)]
    for gate in gates:
        gate.submit()
        gate.open()
    return gates


def test_every_job_runs_after_redis_has_lost_all_messages(
    own_redis: RedisServer,
    services: Services,
    start_process: StartProcess,
    start_worker: Callable[[], ServiceProcess],
    make_gate: Callable[[], Gate],
) -> None:
    gates = submit_gates(make_gate, 20)
    own_redis.stop()
    own_redis.start()
    # The messages are deleted after the restart. If they were deleted before, they could return: on a busy disk, Redis
    # may write the deletion late, and would lose it when it is killed.
    own_redis.flush()
    assert services.broker.count_pending_wakeups(*QUEUE) == 0
    start_process("shared.maintenance")
    start_worker()
    for gate in gates:
        assert gate.wait_for(State.SUCCEEDED).attempt == 1


def test_worker_continues_after_a_restart_of_redis(
    own_redis: RedisServer,
    start_process: StartProcess,
    start_worker: Callable[[], ServiceProcess],
    make_gate: Callable[[], Gate],
) -> None:
    worker = start_worker()
    start_process("shared.maintenance")
    (running,) = [make_gate()]
    running.submit()
    running.wait_for_child()
    own_redis.stop()
    queued = submit_gates(make_gate, 3)  # Redis is stopped, so these jobs are queued without a wake-up message
    own_redis.start()
    running.open()
    for gate in [running, *queued]:
        assert gate.wait_for(State.SUCCEEDED).attempt == 1
    assert worker.process.poll() is None


@pytest.mark.parametrize("hangs", [False, True], ids=["gone", "hanging"])
def test_job_is_queued_without_redis_and_its_wakeup_is_sent_later(
    own_redis: RedisServer, settings: Settings, hangs: bool
) -> None:
    assert CONNECT_TIMEOUT_S + RESPONSE_TIMEOUT_S <= 3  # a request may wait for Redis for 3 s at most
    app = create_app(settings)
    services: Services = get_context(app).services
    client: FlaskClient = app.test_client()
    if hangs:
        own_redis.signal(signal.SIGSTOP)
    else:
        own_redis.stop()
    answer = client.post("/api/v1/jobs", json={"kind": "knn", "device": "cpu"})
    assert (answer.status_code, answer.json["state"]) == (202, "queued")  # type: ignore[index]  # a JSON object
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json) == (503, {"status": "not ready", "unreachable": ["broker"]})
    with pytest.raises((RedisError, OSError)):
        services.broker.ping()
    if hangs:
        own_redis.signal(signal.SIGCONT)
        wait_until(own_redis.answers, "Redis")
    else:
        own_redis.start()
    services.broker.ping()
    # The wake-up message that was sent while Redis hung may have reached Redis after the hang, so it is deleted.
    own_redis.flush()
    sweep_until_pending(services, 1)
    assert services.broker.count_pending_wakeups(Kind.KNN, DeviceClass.CPU) == 1
    services.close()


def test_number_of_pending_wakeups_is_limited(services: Services) -> None:
    for _ in range(MAX_PENDING_WAKEUPS + 3):
        submit.submit_job(services, {"kind": "knn", "device": "cpu"})
    assert services.broker.count_pending_wakeups(Kind.KNN, DeviceClass.CPU) == MAX_PENDING_WAKEUPS
    services.broker._redis.flushall()
    sweep_until_pending(services, MAX_PENDING_WAKEUPS)
    __main__.sweep(services)
    assert services.broker.count_pending_wakeups(Kind.KNN, DeviceClass.CPU) == MAX_PENDING_WAKEUPS


def test_sweeper_sends_one_wakeup_per_queued_job(services: Services) -> None:
    for _ in range(5):
        submit.submit_job(services, {"kind": "knn", "device": "cpu"})
    services.broker._redis.flushall()
    sweep_until_pending(services, 5)
    for _ in range(3):
        __main__.sweep(services)
    assert services.broker.count_pending_wakeups(Kind.KNN, DeviceClass.CPU) == 5


def sweep_until_pending(services: Services, wakeups: int) -> None:
    def look() -> bool:
        __main__.sweep(services)
        return services.broker.count_pending_wakeups(Kind.KNN, DeviceClass.CPU) == wakeups

    wait_until(look, f"{wakeups} wakeups")


def test_worker_ignores_wakeups_for_an_unknown_job(
    services: Services, start_worker: Callable[[], ServiceProcess], make_gate: Callable[[], Gate]
) -> None:
    start_worker()
    for _ in range(10):
        services.broker.wake(*QUEUE, "no-such-job")
    gate = make_gate()
    gate.submit()
    gate.open()
    assert gate.wait_for(State.SUCCEEDED).attempt == 1
