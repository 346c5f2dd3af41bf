"""Delivers to webhooks what they are to be told, again and again until it has arrived.

A message is taken as a job is: by one conditional UPDATE, under a lease, with its
attempt as the fence. It may arrive twice, under the same id, where a process
dies between the answer and the row.
"""

import logging
import threading
import time
from typing import Final

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from shared.database.connection import now
from shared.database.tables import Delivery
from shared.jobs import RetryDelay
from shared.services import Services
from shared.webhooks import messages, target

DELAY: Final = RetryDelay(first_s=10.0, max_s=3_600.0)
MAX_ATTEMPTS: Final = 20
"""The last of them comes some eleven hours after the first."""
LEASE_S: Final = 60.0
"""Longer than an attempt takes: to look up, to connect, to be answered."""
MAX_CONCURRENT_URLS: Final = 16
"""To how many URLs a process delivers at once, one message at a time to each."""
MAX_TURN_S: Final = 10.0
"""How long messages to one URL follow each other before others may take its place."""

_DELIVERIES: Final = Delivery.metadata.tables[Delivery.__tablename__]
_DUE: Final = _DELIVERIES.c.due_at <= now()
_FIRST: Final = (
    select(_DELIVERIES.c.id)
    .where(_DUE, _DELIVERIES.c.url == bindparam("to"))
    .order_by(_DELIVERIES.c.due_at, _DELIVERIES.c.id)
    .limit(1)
    .with_for_update(skip_locked=True)
    .scalar_subquery()
)
_TAKE: Final = select(Delivery).from_statement(
    update(_DELIVERIES)
    .where(_DELIVERIES.c.id == _FIRST)
    .values(attempt=_DELIVERIES.c.attempt + 1, due_at=now(LEASE_S))
    .returning(_DELIVERIES)
)

logger = logging.getLogger(__name__)


class Deliverer:
    """Delivers from this process; any number of others may do the same."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._threads: dict[str, threading.Thread] = {}

    def deliver_due(self) -> list[threading.Thread]:
        """Begin to deliver what is due.

        Returns
        -------
        The threads that do so, one for each URL: an endpoint that is slow keeps none but its own messages waiting.
        """
        self._threads = {url: thread for url, thread in self._threads.items() if thread.is_alive()}
        started = {url: threading.Thread(target=self._serve, args=(url,), daemon=True) for url in self._draw_urls()}
        self._threads |= started
        for thread in started.values():
            thread.start()
        return list(started.values())

    def _draw_urls(self) -> list[str]:
        """Draw from the URLs that something is due for: the longest queue has no better chance."""
        waiting = (
            select(Delivery.url)
            .where(_DUE, Delivery.url.not_in(self._threads))
            .group_by(Delivery.url)
            .order_by(func.random())
            .limit(MAX_CONCURRENT_URLS - len(self._threads))
        )
        with self._services.database.reading() as session:
            return list(session.scalars(waiting))

    def _serve(self, url: str) -> None:
        """Deliver to one URL, as long as that goes well."""
        turn_ends_at = time.monotonic() + MAX_TURN_S
        try:
            while time.monotonic() < turn_ends_at and (delivery := self._take(url)) and self._deliver(delivery):
                pass
        except SQLAlchemyError as error:
            logger.warning("delivering to webhooks failed, the next round tries again: %s", error)

    def _take(self, url: str) -> Delivery | None:
        with self._services.database.writing() as session:
            return session.scalars(_TAKE, {"to": url}).one_or_none()

    def _deliver(self, delivery: Delivery) -> bool:
        """Try once, and write down what came of it, unless another process has taken the message meanwhile."""
        failure = self._post(delivery)
        about = f"message {delivery.id} about job {delivery.data['id']}"
        held = (Delivery.id == delivery.id, Delivery.attempt == delivery.attempt)
        with self._services.database.writing() as session:
            if failure is None:
                session.execute(delete(Delivery).where(*held))
            elif delivery.attempt >= MAX_ATTEMPTS:
                logger.warning("%s is given up after %d attempts: %s", about, delivery.attempt, failure)
                session.execute(delete(Delivery).where(*held))
            else:
                logger.info("%s did not arrive in attempt %d: %s", about, delivery.attempt, failure)
                session.execute(update(Delivery).where(*held).values(due_at=now(DELAY.after(delivery.attempt))))
        return failure is None

    def _post(self, delivery: Delivery) -> str | None:
        """Return what went wrong, in words for the log; the URL is not among them, since it may hold a secret."""
        settings = self._services.settings
        try:
            # Looked up anew: what was public when the job was submitted may have become something else.
            endpoint = target.resolve_target(delivery.url, private=settings.allow_private_webhooks)
            secret = messages.load_signing_secret(settings, delivery.owner)
            status = endpoint.post(*messages.build_message(delivery, secret), delivery.attempt)
        except Exception as error:  # noqa: BLE001 - whatever it is, the message must be due again or be given up
            return f"{type(error).__name__}: {error}"
        return None if status // 100 == 2 else f"the answer was {status}"  # noqa: PLR2004 - HTTP's own number
