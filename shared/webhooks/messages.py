"""What webhooks are told, and how they know who says so: the scheme of Standard Webhooks (standardwebhooks.com)."""

import hmac
import json
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import insert
from sqlalchemy.orm import Session

from shared import api_keys
from shared.database.connection import now
from shared.database.tables import Delivery, Job
from shared.ids import make_id
from shared.jobs import TransitionedJob
from shared.settings import Settings
from shared.texts import render_error
from shared.timestamps import format_timestamp

PREFIX: Final = "whsec_"
"""Tells people, and the scheme's libraries, what it is."""
_QUEUE: Final = insert(Delivery.metadata.tables[Delivery.__tablename__]).values(created_at=now(), due_at=now())


def queue_messages(session: Session, jobs: Iterable[Job | TransitionedJob]) -> None:
    """Queue a message about each job whose webhook wants to be told of the state that it has just come to."""
    messages = [
        {"id": make_id(), "owner": job.owner, "url": job.webhook["url"], "data": _describe(job)}
        for job in jobs
        if job.webhook is not None and job.state in job.webhook["events"]
    ]
    if messages:
        session.execute(_QUEUE, messages)


def build_message(delivery: Delivery, secret: str) -> tuple[bytes, dict[str, str]]:
    """Write a message as it is sent now.

    Parameters
    ----------
    secret
        What signs it.

    Returns
    -------
    body, headers
        The same body for every attempt; headers that prove who sends it, and when.
    """
    message = {
        "type": f"job.{delivery.data['state']}",
        "timestamp": format_timestamp(delivery.created_at),
        "data": delivery.data | {"error": render_error(error) if (error := delivery.data["error"]) else None},
    }
    body = json.dumps(message).encode()
    timestamp = int(time.time())
    return body, {
        "Content-Type": "application/json",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, delivery.id, timestamp, body),
    }


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Sign a message."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    key = b64decode(secret.removeprefix(PREFIX))
    return f"v1,{b64encode(hmac.digest(key, signed, 'sha256')).decode()}"


def load_signing_secret(settings: Settings, owner: str) -> str:
    """Return what the messages about an owner's jobs are signed with, as its receivers are given it."""
    return PREFIX + api_keys.derive_secret(api_keys.load_secret(settings), f"webhooks {owner}")


def _describe(job: Job | TransitionedJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "attempt": job.attempt,
        "error": job.error,
        "labels": job.labels,
        "url": f"/api/v1/jobs/{job.id}",
    }
