"""Webhook messages and their signatures, which are compared with a signature that the test computes step by step."""

import hashlib
import json
import time
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.database.tables import Delivery
from shared.jobs import ANONYMOUS
from shared.settings import Settings
from shared.webhooks import messages


def sign_by_hand(key: bytes, signed: bytes) -> str:
    """Compute a signature with HMAC-SHA256 as RFC 2104 defines HMAC."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded) + signed).digest()
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded) + inner).digest()
    return f"v1,{b64encode(outer).decode()}"


def test_signature_equals_the_example_of_standard_webhooks() -> None:
    # This example is from the reference libraries of Standard Webhooks.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the published secret of the example
    signature = messages.sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_message_has_an_id_a_timestamp_and_a_valid_signature(tmp_path: Path) -> None:
    secret = messages.load_signing_secret(Settings(home=tmp_path), "an owner")
    delivery = Delivery(
        id="0198c000-0000-7000-8000-000000000000",
        created_at=datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC),
        data={"id": "a job", "state": "succeeded", "labels": {"name": "Zoë"}},
    )
    before = int(time.time())
    body, headers = messages.build_message(delivery, secret)
    assert json.loads(body) == {
        "type": "job.succeeded",
        "timestamp": "2026-01-02T03:04:05.678Z",
        "data": {"id": "a job", "state": "succeeded", "labels": {"name": "Zoë"}},
    }
    assert (headers["webhook-id"], headers["Content-Type"]) == (delivery.id, "application/json")
    assert before <= int(headers["webhook-timestamp"]) <= time.time()
    key = b64decode(secret.removeprefix("whsec_"))
    assert len(key) == 32
    signed = b".".join([delivery.id.encode(), headers["webhook-timestamp"].encode(), body])
    assert headers["webhook-signature"] == sign_by_hand(key, signed)


def test_each_owner_has_a_different_and_constant_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(home=tmp_path)
    secrets = {messages.load_signing_secret(settings, owner) for owner in (ANONYMOUS, "one", "other")}
    assert len(secrets) == 3
    assert messages.load_signing_secret(settings, "one") in secrets
    assert messages.load_signing_secret(settings.model_copy(update={"secret": "another"}), "one") not in secrets
