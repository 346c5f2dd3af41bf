"""Messages to webhooks: a real endpoint on loopback receives them, on SQLite and PostgreSQL."""

import logging
import socket
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, update

from shared.database import transitions
from shared.database.connection import now
from shared.database.tables import Delivery, Job
from shared.errors import RequestInvalidError
from shared.jobs import ANONYMOUS, Origin, Outcome, State, build_error
from shared.maintenance import __main__, cleanup
from shared.retry_delay import RetryDelay
from shared.services import Services
from shared.settings import Settings
from shared.submission import checks
from shared.submission.submit import submit_job
from shared.webhooks import deliverer, http_post, messages
from shared.webhooks.deliverer import MAX_ATTEMPTS, MAX_TARGETS_OF_OWNER, Deliverer, Target
from shared.webhooks.host_lookup import HostLookups
from tests.integration.conftest import StartProcess
from tests.support.database_clock import read_clock
from tests.support.job_outcomes import start_job
from tests.support.waiting import DEADLINE_S, wait_until
from tests.support.webhook_receiver import Received, Receiver

DONE = Outcome(State.SUCCEEDED, {"best_k": 5})
FAILED = Outcome(State.FAILED, error=build_error("upload-missing", "upload-missing", {"upload": "u1"}))
OpenServices = Callable[[Settings], Services]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_private_webhooks": True})


@pytest.fixture(autouse=True)
def _no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the time limits of a request, and of the delivery to one URL, so that tests also pass on a slow machine."""
    monkeypatch.setattr(http_post, "TIMEOUT_S", DEADLINE_S)
    monkeypatch.setattr(deliverer, "MAX_TURN_S", DEADLINE_S)


def submit(
    services: Services, url: str, events: list[str] | None = None, *, owner: str = "an owner", **others: object
) -> Job:
    webhook = {"url": url} | ({} if events is None else {"events": events})
    body = {"kind": "knn", "device": "cpu", "webhook": webhook} | others
    return submit_job(services, body, origin=Origin(owner))[0]


def finish(services: Services, ending: Outcome = DONE) -> None:
    assert transitions.finish(services.database, start_job(services), ending)


def deliver(services: Services) -> None:
    """Deliver the messages that are due now, and wait for the end of all deliveries."""
    for thread in Deliverer(services).deliver_due():
        thread.join()


def list_deliveries(services: Services) -> list[Delivery]:
    with services.database.reading() as session:
        return list(session.scalars(select(Delivery).order_by(Delivery.id)))


def read_delivery(services: Services) -> Delivery:
    (delivery,) = list_deliveries(services)
    return delivery


def set_due(services: Services, delay_s: float = -1.0, **columns: object) -> None:
    """Make all messages due in ``delay_s`` seconds; by default they are due already."""
    with services.database.writing() as session:
        session.execute(update(Delivery).values(due_at=now(delay_s), **columns))


@contextmanager
def expect_delay(services: Services, delay_s: float) -> Iterator[None]:
    """Check that the block makes the message due ``delay_s`` seconds later."""
    before = read_clock(services.database)
    yield
    due_at = read_delivery(services).due_at
    assert before <= due_at - timedelta(seconds=delay_s) <= read_clock(services.database)


def verify(services: Services, request: Received, owner: str) -> None:
    """Check the signature of a request as a receiver would."""
    secret = messages.load_signing_secret(services.settings, owner)
    assert len(b64decode(secret.removeprefix("whsec_"))) == 32
    message_id, timestamp = request.headers["webhook-id"], int(request.headers["webhook-timestamp"])
    assert request.headers["webhook-signature"] == messages.sign(secret, message_id, timestamp, request.body)


def test_each_event_is_sent_once_and_signed(services: Services, receiver: Receiver) -> None:
    job = submit(services, receiver.locate(), ["queued", "running", "failed"], labels={"run": "7"})
    finish(services, FAILED)
    deliver(services)
    deliver(services)
    assert [request.message["type"] for request in receiver.received] == ["job.queued", "job.running", "job.failed"]
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 3
    last = receiver.received[-1]
    assert last.headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert last.headers["Content-Type"] == "application/json"
    assert last.message["data"] == {
        "id": job.id,
        "kind": "knn",
        "state": "failed",
        "attempt": 1,
        "error": {
            "type": "upload-missing",
            "title": "An upload no longer exists",
            "detail": "The upload u1 no longer exists. Upload the file again and submit a new job.",
        },
        "labels": {"run": "7"},
        "url": f"/api/v1/jobs/{job.id}",
    }
    for request in receiver.received:
        verify(services, request, "an owner")
    with pytest.raises(AssertionError):
        verify(services, last, ANONYMOUS)
    assert list_deliveries(services) == []


def test_only_the_end_of_a_job_is_sent_if_the_webhook_names_no_events(services: Services, receiver: Receiver) -> None:
    submit(services, receiver.locate())
    lease = start_job(services)
    transitions.recover_lost(services.database, lease, RetryDelay(0.0, 0.0))
    finish(services)
    deliver(services)
    assert [(request.message["type"], request.message["data"]["attempt"]) for request in receiver.received] == [
        ("job.succeeded", 2)
    ]


def test_a_cancel_request_for_a_running_job_sends_no_message(services: Services, receiver: Receiver) -> None:
    job = submit(services, receiver.locate(), ["running", "cancelled"])
    lease = start_job(services)
    transitions.cancel(services.database, job.id)
    deliver(services)
    assert [request.message["type"] for request in receiver.received] == ["job.running"]
    transitions.recover_lost(services.database, lease, RetryDelay(0.0, 0.0))
    deliver(services)
    assert [request.message["type"] for request in receiver.received] == ["job.running", "job.cancelled"]


def test_a_job_without_a_webhook_sends_no_messages(services: Services) -> None:
    submit_job(services, {"kind": "knn", "device": "cpu"})
    finish(services)
    assert list_deliveries(services) == []
    assert Deliverer(services).deliver_due() == []


def test_an_outcome_of_a_lost_attempt_sends_no_message(services: Services, receiver: Receiver) -> None:
    submit(services, receiver.locate())
    lease = start_job(services)
    transitions.recover_lost(services.database, lease, RetryDelay(0.0, 0.0))
    assert not transitions.finish(services.database, lease, DONE)
    assert list_deliveries(services) == []


def test_a_message_is_sent_again_with_growing_delay_until_it_is_accepted(
    services: Services, receiver: Receiver
) -> None:
    submit(services, receiver.locate("/500"))
    finish(services)
    for delay_s in (10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600, 3_600):
        with expect_delay(services, delay_s):
            deliver(services)
        set_due(services, DEADLINE_S)
        deliver(services)
        set_due(services)
    requests = receiver.wait_for("/500")
    assert len(requests) == 12
    assert len({(request.headers["webhook-id"], request.body) for request in requests}) == 1
    set_due(services, url=receiver.locate())
    deliver(services)
    assert receiver.wait_for("/200")[0].body == requests[0].body
    assert list_deliveries(services) == []


def test_a_message_is_sent_again_after_a_refused_connection(services: Services) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    submit(services, f"http://127.0.0.1:{port}/")
    finish(services)
    for wait_s in (10, 20):
        with expect_delay(services, wait_s):
            deliver(services)
        set_due(services)
    with Receiver() as receiver:
        set_due(services, url=receiver.locate())
        deliver(services)
        assert len(receiver.received) == 1
    assert list_deliveries(services) == []


def test_a_message_is_dropped_after_the_last_attempt(
    services: Services, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    job = submit(services, receiver.locate("/503"))
    finish(services)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert read_delivery(services).attempt == attempt - 1
        deliver(services)
        set_due(services)
    assert list_deliveries(services) == []
    assert len(receiver.received) == MAX_ATTEMPTS
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert job.id in warning
    assert f"is dropped after {MAX_ATTEMPTS} attempts: the response was 503" in warning


def test_concurrent_deliverers_deliver_each_message_once(
    services: Services, receiver: Receiver, settings: Settings, open_services: OpenServices
) -> None:
    for _ in range(20):
        submit(services, receiver.locate())
        finish(services)
    start = threading.Barrier(4)

    def run(own: Services) -> None:
        start.wait()
        deliver(own)

    threads = [threading.Thread(target=run, args=(open_services(settings),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [request.headers["webhook-id"] for request in receiver.received]
    assert (len(ids), len(set(ids))) == (20, 20)
    assert list_deliveries(services) == []


def test_a_message_of_a_dead_deliverer_is_delivered_after_the_lease_expires(
    services: Services, receiver: Receiver
) -> None:
    submit(services, receiver.locate())
    finish(services)
    with expect_delay(services, deliverer.LEASE_S):
        assert Deliverer(services)._claim(Target("an owner", receiver.locate())) is not None
    set_due(services, DEADLINE_S)
    deliver(services)
    assert receiver.received == []
    set_due(services)
    deliver(services)
    assert len(receiver.received) == 1


def test_the_outcome_of_a_late_delivery_attempt_is_ignored(services: Services, receiver: Receiver) -> None:
    submit(services, receiver.locate("/500"))
    finish(services)
    deliverer = Deliverer(services)
    late = deliverer._claim(Target("an owner", receiver.locate("/500")))
    assert late is not None
    set_due(services)
    deliver(services)
    before = read_delivery(services)
    assert deliverer._deliver(late, HostLookups(DEADLINE_S)) is False
    after = read_delivery(services)
    assert (after.attempt, after.due_at) == (before.attempt, before.due_at) == (2, before.due_at)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(services: Services, receiver: Receiver, status: int) -> None:
    submit(services, receiver.locate(f"/{status}"))
    finish(services)
    deliver(services)
    assert [request.path for request in receiver.received] == [f"/{status}"]
    assert read_delivery(services).attempt == 1


def test_a_private_address_is_refused_at_submission(
    settings: Settings, open_services: OpenServices, receiver: Receiver
) -> None:
    strict = open_services(settings.model_copy(update={"allow_private_webhooks": False}))
    with pytest.raises(RequestInvalidError) as caught:
        submit(strict, receiver.locate())
    assert [problem.pointer for problem in caught.value.problems] == ["/webhook/url"]
    assert "not public" in caught.value.detail
    with strict.database.reading() as session:
        assert session.scalars(select(Job.id)).all() == []


def test_a_private_address_is_refused_at_delivery(
    services: Services,
    settings: Settings,
    open_services: OpenServices,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    submit(services, receiver.locate())
    finish(services)
    strict = open_services(settings.model_copy(update={"allow_private_webhooks": False}))
    caplog.set_level("INFO")
    deliver(strict)
    assert receiver.received == []
    assert read_delivery(services).attempt == 1
    assert "not public" in caplog.text


def test_a_host_name_that_now_resolves_to_a_private_address_is_not_contacted(
    settings: Settings, open_services: OpenServices, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = open_services(settings.model_copy(update={"allow_private_webhooks": False}))
    real, addresses = socket.getaddrinfo, ["8.8.8.8"]

    def look_up(host: str, port: int, *others: int, **named: int) -> list[Any]:
        return list(real(addresses[0] if host == "hooks.example" else host, port, *others, **named))

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    submit(strict, f"http://hooks.example:{receiver.port}/")
    finish(strict)
    addresses[0] = "127.0.0.1"
    deliver(strict)
    assert receiver.received == []
    assert read_delivery(strict).attempt == 1


def test_an_endpoint_that_hangs_delays_only_its_own_messages(services: Services, receiver: Receiver) -> None:
    for path in ("/hang/1", "/hang/1", "/hang/2", "/200/other", "/200/other"):
        submit(services, receiver.locate(path))
        finish(services)
    deliverer = Deliverer(services)
    threads = deliverer.deliver_due()
    receiver.wait_for("/200/other", 2)
    receiver.wait_for("/hang/1")
    receiver.wait_for("/hang/2")
    submit(services, receiver.locate("/200/later"))
    finish(services)
    (later,) = deliverer.deliver_due()  # the URLs that hang get no second thread: one message at a time
    later.join()
    assert sorted(request.path for request in receiver.received) == [
        *("/200/later", "/200/other", "/200/other", "/hang/1", "/hang/2")
    ]
    receiver.answering.set()
    for thread in threads:
        thread.join()
    assert len(receiver.wait_for("/hang/1")) == 2
    assert list_deliveries(services) == []


def test_slow_endpoints_of_one_owner_leave_room_for_other_owners(services: Services, receiver: Receiver) -> None:
    for number in range(2 * MAX_TARGETS_OF_OWNER):
        submit(services, receiver.locate(f"/hang/{number}"), ["queued"])
    deliverer = Deliverer(services)
    threads = deliverer.deliver_due()
    assert len(threads) == MAX_TARGETS_OF_OWNER
    submit(services, receiver.locate("/200/other"), ["queued"], owner="another owner")
    submit(services, receiver.locate("/200/third"), ["queued"], owner="a third owner")
    later = deliverer.deliver_due()
    assert len(later) == 2
    receiver.wait_for("/200/other")
    receiver.wait_for("/200/third")
    receiver.answering.set()
    for thread in threads + later:
        thread.join()
    for thread in deliverer.deliver_due():
        thread.join()
    assert list_deliveries(services) == []


def test_owners_are_served_in_turn(services: Services, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliverer, "MAX_CONCURRENT_TARGETS", 3)
    for number in range(10):
        submit(services, receiver.locate(f"/hang/{number}"), ["queued"])
    for owner in ("another owner", "a third owner"):
        submit(services, receiver.locate("/hang/same"), ["queued"], owner=owner)
    chosen = Deliverer(services)._choose_targets()
    assert {it.owner for it in chosen} == {"an owner", "another owner", "a third owner"}


class HangingResolver:
    """Does not answer for the host ``hang.example`` until `release` is set.

    Parameters
    ----------
    caller
        A thread that must not wait for the resolver.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, caller: threading.Thread | None = None) -> None:
        self.release = threading.Event()
        self.asked = 0
        self._caller = caller
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str, port: int, *others: int, **named: int) -> list[Any]:
        if host == "hang.example" and not named.get("flags", 0) & socket.AI_NUMERICHOST:
            assert threading.current_thread() is not self._caller, "a request must not wait for the resolver"
            self.asked += 1
            self.release.wait()
            host = "127.0.0.1"
        return list(self._real(host, port, *others, **named))


def test_a_resolver_that_hangs_does_not_hold_submissions(
    services: Services, settings: Settings, open_services: OpenServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = open_services(settings.model_copy(update={"allow_private_webhooks": False}))
    monkeypatch.setattr(checks, "LOOKUPS", HostLookups(0.01, max_running=2))
    resolver = HangingResolver(monkeypatch, threading.current_thread())
    for number in range(4):
        submit(strict, f"http://hang.example/{number}")
    with pytest.raises(RequestInvalidError, match="not public"):
        submit(strict, "http://127.1/")
    with services.database.reading() as session:
        assert len(session.scalars(select(Job.id)).all()) == 4
    assert resolver.asked == 2
    resolver.release.set()
    checks.LOOKUPS.join()
    monkeypatch.setattr(checks, "LOOKUPS", HostLookups(DEADLINE_S))
    with pytest.raises(RequestInvalidError, match="not public"):
        submit(strict, "http://hang.example/")


def test_a_resolver_that_hangs_holds_only_its_own_target(
    services: Services, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(checks, "LOOKUPS", HostLookups(0.01))
    monkeypatch.setattr(deliverer, "LOOKUP_TIMEOUT_S", 0.01)
    resolver = HangingResolver(monkeypatch)
    submit(services, f"http://hang.example:{receiver.port}/200/late", ["queued"])
    submit(services, receiver.locate("/200/other"), ["queued"])
    mine = Deliverer(services)
    threads = mine.deliver_due()
    receiver.wait_for("/200/other")

    def is_given_up() -> bool:
        left = list_deliveries(services)
        under_lease_until = read_clock(services.database) + timedelta(seconds=deliverer.LEASE_S / 2)
        return [(it.attempt, it.due_at < under_lease_until) for it in left] == [(1, True)]

    wait_until(is_given_up, "the attempt to be given up")
    assert "the lookup of the host 'hang.example' takes more than 0.01 s" in caplog.text
    set_due(services)
    assert mine.deliver_due() == []  # the lookup has not ended, so no second one is started for this target
    resolver.release.set()
    checks.LOOKUPS.join()
    for thread in threads:
        thread.join()
    monkeypatch.setattr(deliverer, "LOOKUP_TIMEOUT_S", DEADLINE_S)
    deliver(services)
    assert len(receiver.wait_for("/200/late")) == 1


def test_the_message_about_a_deleted_job_is_still_delivered(services: Services, receiver: Receiver) -> None:
    job = submit(services, receiver.locate())
    finish(services)
    transitions.delete_job(services.database, job.id)
    deliver(services)
    assert [request.message["data"]["id"] for request in receiver.received] == [job.id]


def test_a_message_that_is_too_old_is_deleted(services: Services, caplog: pytest.LogCaptureFixture) -> None:
    submit(services, "http://127.0.0.1:9/")
    finish(services)
    cleanup.clean_up(services)
    assert len(list_deliveries(services)) == 1
    with services.database.writing() as session:
        session.execute(update(Delivery).values(created_at=now(-31 * 86_400.0)))
    cleanup.clean_up(services)
    assert list_deliveries(services) == []
    assert "1 messages to webhooks were not delivered within 30 days and are deleted" in caplog.text


def test_an_endpoint_that_hangs_does_not_delay_the_sweep(services: Services, receiver: Receiver) -> None:
    submit(services, receiver.locate("/hang"), ["queued"])
    (thread,) = Deliverer(services).deliver_due()
    receiver.wait_for("/hang")
    lease = start_job(services)
    with services.database.writing() as session:
        session.execute(update(Job).values(lease_until=now(-1)))
    __main__.sweep(services)
    with services.database.reading() as session:
        assert session.scalars(select(Job.state)).one() == State.QUEUED
    assert not transitions.finish(services.database, lease, DONE)
    assert thread.is_alive()
    receiver.answering.set()
    thread.join()


def test_the_sweeper_process_delivers_messages(
    services: Services, receiver: Receiver, start_process: StartProcess
) -> None:
    start_process("shared.maintenance")
    submit(services, receiver.locate("/hang"), ["queued"])
    receiver.wait_for("/hang")
    submit(services, receiver.locate())
    finish(services)
    finish(services)
    (request,) = receiver.wait_for("/200")
    verify(services, request, "an owner")
    receiver.answering.set()
    wait_until(lambda: list_deliveries(services) == [], "the messages")


def test_a_job_shows_its_webhook_and_a_retry_has_the_same_webhook(client: FlaskClient, services: Services) -> None:
    webhook = {"url": "http://127.0.0.1:9/", "events": ["running", "failed"]}
    body: dict[str, Any] = {"kind": "knn", "device": "cpu", "webhook": webhook}
    job: Any = client.post("/api/v1/jobs", json=body).json
    assert job["webhook"] == webhook
    finish(services)
    again: Any = client.post(f"/api/v1/jobs/{job['id']}/retry").json
    assert (again["retry_of"], again["webhook"]) == (job["id"], webhook)
    bare: Any = client.post("/api/v1/jobs", json={"kind": "knn", "device": "cpu"}).json
    assert bare["webhook"] is None
