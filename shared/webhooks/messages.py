"""The messages to webhooks and their signatures, in the scheme of Standard Webhooks (standardwebhooks.com)."""

import hmac
import json
import time
from base64 import b64decode, b64encode
from typing import Final

from shared.database.tables import Delivery
from shared.secret import derive_secret, load_secret
from shared.settings import Settings
from shared.texts import render_error
from shared.timestamps import format_timestamp

PREFIX: Final = "whsec_"
"""The prefix by which people and the libraries of Standard Webhooks recognise a secret."""


def build_message(delivery: Delivery, secret: str) -> tuple[bytes, dict[str, str]]:
    """Build the body and the headers of a message that is sent now.

    Parameters
    ----------
    secret
        The secret that signs the message.

    Returns
    -------
    body, headers
        The body is the same in every attempt; the headers prove who sends the message, and when.
    """
    message = {
        "type": f"job.{delivery.data['state']}",
        "timestamp": format_timestamp(delivery.created_at),
        "data": delivery.data | ({"error": render_error(error)} if (error := delivery.data.get("error")) else {}),
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
    """Return the secret that signs the messages about an owner's jobs, in the form that receivers use."""
    return PREFIX + derive_secret(load_secret(settings), f"webhooks {owner}")
