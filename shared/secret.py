"""The secret of an instance, which signs sessions and webhooks: from the settings, or created at the first start."""

import hmac
import os
import secrets
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Final

from shared.errors import SettingsError
from shared.ids import make_id
from shared.settings import MIN_SECRET_LENGTH, Settings
from shared.state_folder import make_state_folder
from shared.texts import text

_BYTES: Final = 32


def load_secret(settings: Settings) -> bytes:
    """Return the secret in the settings, or else the secret in the state folder, which is created at its first use."""
    if settings.secret:
        return settings.secret.encode()
    path = settings.home / "secret"
    with suppress(FileNotFoundError):
        return _read_secret(path)
    make_state_folder(settings)
    created = path.with_name(f"secret-{make_id()}")
    with os.fdopen(os.open(created, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(secrets.token_hex(_BYTES).encode())
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):  # another process was faster: its secret is used
        os.link(created, path)
    created.unlink()
    return _read_secret(path)


def _read_secret(path: Path) -> bytes:
    secret = path.read_bytes()
    if len(secret) < MIN_SECRET_LENGTH:
        raise SettingsError(text("secret-damaged", path=str(path)))
    return secret


def derive_secret(secret: bytes, purpose: str) -> str:
    """Derive a secret for one purpose. A derived secret reveals nothing about the secrets for other purposes."""
    return b64encode(hmac.digest(secret, purpose.encode(), "sha256")).decode()
