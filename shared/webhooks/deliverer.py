"""Delivers messages to webhooks; a message that fails is sent again, in up to `MAX_ATTEMPTS` attempts.

A message is claimed like a job: by one conditional UPDATE, under a lease, with the number of the attempt as the fencing
token. A message may arrive twice, with the same id, if a process dies after it has received the response and before it
has deleted the row.
"""

import logging
import threading
import time
from typing import Final

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from shared.database.connection import now
from shared.database.tables import Delivery
from shared.retry_delay import RetryDelay
from shared.services import Services
from shared.webhooks import http_post, messages, target

DELAY: Final = RetryDelay(first_s=10.0, max_s=3_600.0)
MAX_ATTEMPTS: Final = 20
"""The last attempt is about eleven hours after the first."""
LEASE_S: Final = 60.0
"""The lease is longer than an attempt takes: resolving the host, connecting, and waiting for the response."""
MAX_CONCURRENT_URLS: Final = 16
"""The maximum number of URLs that one process delivers to at once; each URL receives one message at a time."""
MAX_TURN_S: Final = 10.0
"""How long one URL receives messages before its thread ends, so that another URL can be chosen."""

_DELIVERIES: Final = Delivery.metadata.tables[Delivery.__tablename__]
_DUE: Final = _DELIVERIES.c.due_at <= now()
_FIRST_DUE_ID: Final = (
    select(_DELIVERIES.c.id)
    .where(_DUE, _DELIVERIES.c.url == bindparam("target_url"))
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


class Deliverer:
    """Delivers messages from this process; any number of processes may do so at once."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._threads: dict[str, threading.Thread] = {}

    def deliver_due(self) -> list[threading.Thread]:
        """Start the delivery of the messages that are due.

        Returns
        -------
        The started threads, one for each URL, so that a slow target delays only messages to this target.
        """
        self._threads = {url: thread for url, thread in self._threads.items() if thread.is_alive()}
        started = {
            url: threading.Thread(target=self._deliver_to, args=(url,), daemon=True) for url in self._choose_urls()
        }
        self._threads |= started
        for thread in started.values():
            thread.start()
        return list(started.values())

    def _choose_urls(self) -> list[str]:
        """Choose at random among the URLs with due messages, so that a URL with many messages has no advantage."""
        waiting = (
            select(Delivery.url)
            .where(_DUE, Delivery.url.not_in(self._threads))
            .group_by(Delivery.url)
            .order_by(func.random())
            .limit(MAX_CONCURRENT_URLS - len(self._threads))
        )
        with self._services.database.reading() as session:
            return list(session.scalars(waiting))

    def _deliver_to(self, url: str) -> None:
        """Deliver messages to one URL until an attempt fails, no message is due, or `MAX_TURN_S` has passed."""
        turn_ends_at = time.monotonic() + MAX_TURN_S
        try:
            while time.monotonic() < turn_ends_at and (delivery := self._claim(url)) and self._deliver(delivery):
                pass
        except SQLAlchemyError as error:
            logger.warning("delivering to webhooks failed, the next round tries again: %s", error)

    def _claim(self, url: str) -> Delivery | None:
        with self._services.database.writing() as session:
            return session.scalars(_CLAIM, {"target_url": url}).one_or_none()

    def _deliver(self, delivery: Delivery) -> bool:
        """Send a message once, and return whether it was received.

        The result of the attempt is recorded, unless the lease expired during the attempt and another process claimed
        the message.
        """
        failure = self._post(delivery)
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

    def _post(self, delivery: Delivery) -> str | None:
        """Send a message; return the error for the log, or ``None`` if the message was received.

        The error does not contain the URL, which may contain a secret.
        """
        settings = self._services.settings
        try:
            # Resolve the host again: a host that was public when the job was submitted may have another address now.
            destination = target.resolve_target(delivery.url, private=settings.allow_private_webhooks)
            secret = messages.load_signing_secret(settings, delivery.owner)
            status = http_post.post(destination, *messages.build_message(delivery, secret), delivery.attempt)
        except Exception as error:  # noqa: BLE001 - after any error, the message must be sent again or dropped
            return f"{type(error).__name__}: {error}"
        return None if status // 100 == 2 else f"the response was {status}"  # noqa: PLR2004 - 2xx means success
