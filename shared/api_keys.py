"""API keys, of which only hashes are stored, and the secret that signs sessions and webhooks."""

import hashlib
import hmac
import os
import secrets
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute

from shared.database.connection import Database, now
from shared.database.tables import Job, JobLabel, Key, Upload
from shared.errors import NameTakenError, NotFoundError, SettingsError
from shared.ids import make_id
from shared.jobs import ANONYMOUS
from shared.settings import MIN_SECRET_LENGTH, Settings
from shared.texts import text

PREFIX: Final = "mj_"
"""The beginning of every key. People, and programs that search for leaked secrets, recognise a key by this prefix."""
_BYTES: Final = 32
_ADOPTION_BATCH: Final = 2_000
# The tables whose rows have an owner, each with the column by which a batch of rows is selected.
_OWNED: Final = ((Job, Job.id), (JobLabel, JobLabel.job_id), (Upload, Upload.id))


def create_key(database: Database, name: str, *, adopt: bool = False) -> str:
    """Create a key and return it. The key cannot be read again later, because only its hash is stored.

    Parameters
    ----------
    adopt
        Whether the key takes over the jobs and uploads that were submitted without a key.

    Raises
    ------
    NameTakenError
        Another key has this name.
    """
    secret = PREFIX + secrets.token_urlsafe(_BYTES)
    owner = make_id()
    row = insert(Key).values(id=owner, name=name, sha256=hash_key(secret), created_at=now())
    try:
        with database.writing() as session:
            session.execute(row)
    except IntegrityError as error:
        raise NameTakenError(text("key-name-taken", name=name)) from error
    for table, key in _OWNED if adopt else ():
        while _adopt_some(database, table, key, owner):
            pass
    return secret


def _adopt_some(
    database: Database, table: type[Job | JobLabel | Upload], key: InstrumentedAttribute[str], owner: str
) -> bool:
    """Give a batch of rows that have no owner to ``owner``, and return whether there were such rows.

    Each batch is a transaction of its own, since other writers must wait until such a transaction has ended.
    """
    some = select(key).where(table.owner == ANONYMOUS).limit(_ADOPTION_BATCH)
    adopted = update(table).where(key.in_(some.scalar_subquery()), table.owner == ANONYMOUS).values(owner=owner)
    with database.writing() as session:
        return bool(session.execute(adopted.returning(key), execution_options={"synchronize_session": False}).all())


def list_keys(database: Database) -> Sequence[Key]:
    """List the keys, oldest first."""
    with database.reading() as session:
        return session.scalars(select(Key).order_by(Key.id)).all()


def find_key(database: Database, name: str) -> Key:
    """Find a key by its name.

    Raises
    ------
    NotFoundError
        No key has this name.
    """
    with database.reading() as session:
        key = session.scalars(select(Key).where(Key.name == name)).one_or_none()
    if key is None:
        raise NotFoundError(text("key-not-found", name=name))
    return key


def revoke_key(database: Database, name: str) -> None:
    """Delete a key. Its jobs still run and are kept like all other jobs, but no other key has access to these jobs.

    Raises
    ------
    NotFoundError
        No key has this name.
    """
    with database.writing() as session:
        deleted = session.execute(delete(Key).where(Key.name == name).returning(Key.id)).one_or_none()
    if deleted is None:
        raise NotFoundError(text("key-not-found", name=name))


def hash_key(secret: str) -> str:
    """Hash a key. A key has 256 random bits, so no slow hash function is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def load_secret(settings: Settings) -> bytes:
    """Return the secret in the settings, or else the secret in the state folder, which is created at its first use."""
    if settings.secret:
        return settings.secret.encode()
    path = settings.home / "secret"
    with suppress(FileNotFoundError):
        return _read_secret(path)
    settings.home.mkdir(parents=True, exist_ok=True)
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
