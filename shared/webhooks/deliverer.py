"""Delivers messages to webhooks; a message that fails is sent again, in up to `MAX_ATTEMPTS` attempts.

A message is claimed like a job: by one conditional UPDATE, under a lease, with the number of the attempt as the fencing
token. A message may arrive twice, with the same id, if a process dies after it has received the response and before it
has deleted the row.
"""

import logging
import threading
import time
from collections import Counter
from typing import Final, NamedTuple

from sqlalchemy import bindparam, case, delete, func, literal, select, tuple_, update
from sqlalchemy.exc import SQLAlchemyError

from shared.database.connection import now
from shared.database.tables import Delivery
from shared.retry_delay import RetryDelay
from shared.services import Services
from shared.webhooks import http_post, messages, target
from shared.webhooks.host_lookup import HostLookups

DELAY: Final = RetryDelay(first_s=10.0, max_s=3_600.0)
MAX_ATTEMPTS: Final = 20
"""The last attempt is about eleven hours after the first."""
LEASE_S: Final = 60.0
"""The lease is longer than an attempt takes: resolving the host, connecting, and waiting for the response."""
LOOKUP_TIMEOUT_S: Final = 10.0
"""How long an attempt waits for the addresses of the host."""
MAX_CONCURRENT_TARGETS: Final = 64
"""The maximum number of targets that one process delivers to at once; each target receives one message at a time."""
MAX_TARGETS_OF_OWNER: Final = 16
"""The maximum number of targets of one owner among these, so that slow targets of one owner leave room for others."""
MAX_TURN_S: Final = 10.0
"""How long one target receives messages before its thread ends, so that another target can be chosen."""

_DELIVERIES: Final = Delivery.metadata.tables[Delivery.__tablename__]
_DUE: Final = _DELIVERIES.c.due_at <= now()
_FIRST_DUE_ID: Final = (
    select(_DELIVERIES.c.id)
    .where(_DUE, _DELIVERIES.c.url == bindparam("target_url"), _DELIVERIES.c.owner == bindparam("target_owner"))
    .order_by(_DELIVERIES.c.due_at, _DELIVERIES.c.id)
    .limit(1)
    .with_for_update(skip_locked=True)
    .scalar_subquery()
)
_CLAIM: Final = select(Delivery).from_statement(
    update(_DELIVERIES)
    .where(_DELIVERIES.c.id == _FIRST_DUE_ID)
    .values(attempt=_DELIVERIES.c.attempt + 1, due_at=now(LEASE_S))
    .returning(_DELIVERIES)
)

logger = logging.getLogger(__name__)


class Target(NamedTuple):
    """A URL to which the messages of one owner go. Messages of several owners to one URL do not wait for each other."""

    owner: str
    url: str


class Deliverer:
    """Delivers messages from this process; any number of processes may do so at once."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._threads: dict[Target, threading.Thread] = {}

    def deliver_due(self) -> list[threading.Thread]:
        """Start the delivery of the messages that are due.

        Returns
        -------
        The started threads, one for each target, so that a slow target delays only its own messages.
        """
        self._threads = {chosen: thread for chosen, thread in self._threads.items() if thread.is_alive()}
        started = {
            chosen: threading.Thread(target=self._deliver_to, args=(chosen,), daemon=True)
            for chosen in self._choose_targets()
        }
        self._threads |= started
        for thread in started.values():
            thread.start()
        return list(started.values())

    def _choose_targets(self) -> list[Target]:
        """Choose among the targets with due messages: in turn one of each owner, and at random among those of an owner.

        So neither an owner with many targets nor a target with many messages has an advantage.
        """
        waiting = (
            select(Delivery.owner, Delivery.url)
            .where(_DUE, tuple_(Delivery.owner, Delivery.url).not_in(list(self._threads)))
            .group_by(Delivery.owner, Delivery.url)
            .subquery()
        )
        active = Counter(active.owner for active in self._threads)
        active_count = case(dict(active), value=waiting.c.owner, else_=0) if active else literal(0)
        turn = func.row_number().over(partition_by=waiting.c.owner, order_by=func.random()) + active_count
        ranked = select(waiting, turn.label("turn")).subquery()
        chosen = (
            select(ranked.c.owner, ranked.c.url)
            .where(ranked.c.turn <= MAX_TARGETS_OF_OWNER)
            .order_by(ranked.c.turn, func.random())
            .limit(MAX_CONCURRENT_TARGETS - len(self._threads))
        )
        with self._services.database.reading() as session:
            return [Target(*row) for row in session.execute(chosen)]

    def _deliver_to(self, chosen: Target) -> None:
        """Deliver messages to one target until an attempt fails, no message is due, or `MAX_TURN_S` has passed."""
        turn_ends_at = time.monotonic() + MAX_TURN_S
        lookups = HostLookups(LOOKUP_TIMEOUT_S)
        try:
            while (
                time.monotonic() < turn_ends_at
                and (delivery := self._claim(chosen))
                and self._deliver(delivery, lookups)
            ):
                pass
        except SQLAlchemyError as error:
            logger.warning("delivering to webhooks failed, the next round tries again: %s", error)
        lookups.join()  # a lookup that hangs counts for its owner, who could otherwise start more and more of them

    def _claim(self, chosen: Target) -> Delivery | None:
        parameters = {"target_owner": chosen.owner, "target_url": chosen.url}
        with self._services.database.writing() as session:
            return session.scalars(_CLAIM, parameters).one_or_none()

    def _deliver(self, delivery: Delivery, lookups: HostLookups) -> bool:
        """Send a message once, and return whether it was received.

        The result of the attempt is recorded, unless the lease expired during the attempt and another process claimed
        the message.
        """
        failure = self._post(delivery, lookups)
        name = f"message {delivery.id} about job {delivery.data['id']}"
        held = (Delivery.id == delivery.id, Delivery.attempt == delivery.attempt)
        with self._services.database.writing() as session:
            if failure is None:
                session.execute(delete(Delivery).where(*held))
            elif delivery.attempt >= MAX_ATTEMPTS:
                logger.warning("%s is dropped after %d attempts: %s", name, delivery.attempt, failure)
                session.execute(delete(Delivery).where(*held))
            else:
                logger.info("%s was not delivered in attempt %d: %s", name, delivery.attempt, failure)
                session.execute(update(Delivery).where(*held).values(due_at=now(DELAY.after(delivery.attempt))))
        return failure is None

    def _post(self, delivery: Delivery, lookups: HostLookups) -> str | None:
        """Send a message; return the error for the log, or ``None`` if the message was received.

        The error does not contain the URL, which may contain a secret.
        """
        settings = self._services.settings
        try:
            # Resolve the host again: a host that was public when the job was submitted may have another address now.
            destination = target.resolve_target(
                delivery.url, private=settings.allow_private_webhooks, look_up=lookups.look_up
            )
            secret = messages.load_signing_secret(settings, delivery.owner)
            status = http_post.post(destination, *messages.build_message(delivery, secret), delivery.attempt)
        except Exception as error:  # noqa: BLE001 - after any error, the message must be sent again or dropped
            return f"{type(error).__name__}: {error}"
        return None if status // 100 == 2 else f"the response was {status}"  # noqa: PLR2004 - 2xx means success
