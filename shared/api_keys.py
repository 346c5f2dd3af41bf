"""Keys to this instance, of which only hashes are kept, and the secret that signs what leaves it."""

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

PREFIX: Final = "mj_"
"""Lets people, and programs that look for leaked secrets, tell what it is."""
_BYTES: Final = 32
_ADOPTED_AT_ONCE: Final = 2_000
_OWNED: Final = ((Job, Job.id), (JobLabel, JobLabel.job_id), (Upload, Upload.id))


def create_key(database: Database, name: str, *, adopt: bool = False) -> str:
    """Make a key and return it; it cannot be read again.

    Parameters
    ----------
    adopt
        Whether it takes over the jobs and uploads that belong to nobody, from before the first key.

    Raises
    ------
    NameTakenError
        There is a key of that name.
    """
    secret = PREFIX + secrets.token_urlsafe(_BYTES)
    owner = make_id()
    row = insert(Key).values(id=owner, name=name, sha256=hash_key(secret), created_at=now())
    try:
        with database.writing() as session:
            session.execute(row)
    except IntegrityError as error:
        raise NameTakenError(f"There is a key {name!r} already; choose another name, or revoke that one.") from error
    for table, key in _OWNED if adopt else ():
        while _adopt_some(database, table, key, owner):
            pass
    return secret


def _adopt_some(
    database: Database, table: type[Job | JobLabel | Upload], key: InstrumentedAttribute[str], owner: str
) -> bool:
    """Give some of what is nobody's to an owner, not all at once, since others wait; tell whether there was any."""
    some = select(key).where(table.owner == ANONYMOUS).limit(_ADOPTED_AT_ONCE)
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
        There is no key of that name.
    """
    with database.reading() as session:
        key = session.scalars(select(Key).where(Key.name == name)).one_or_none()
    if key is None:
        raise NotFoundError(f"There is no key {name!r}; python -m web keys list names those there are.")
    return key


def revoke_key(database: Database, name: str) -> None:
    """Forget a key; what it submitted runs, and is kept for as long as all is, but no other key reaches it.

    Raises
    ------
    NotFoundError
        There is no key of that name.
    """
    with database.writing() as session:
        gone = session.execute(delete(Key).where(Key.name == name).returning(Key.id)).one_or_none()
    if gone is None:
        raise NotFoundError(f"There is no key {name!r}.")


def hash_key(secret: str) -> str:
    """Hash a key: it is drawn from so many that no slower hash is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def load_secret(settings: Settings) -> bytes:
    """Return the secret that the settings give, or the one in the state folder, drawn when it is first wanted."""
    if settings.secret:
        return settings.secret.encode()
    path = settings.home / "secret"
    with suppress(FileNotFoundError):
        return _read_secret(path)
    settings.home.mkdir(parents=True, exist_ok=True)
    drawn = path.with_name(f"secret-{make_id()}")
    with os.fdopen(os.open(drawn, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(secrets.token_hex(_BYTES).encode())
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):  # another process was quicker: its secret counts
        os.link(drawn, path)
    drawn.unlink()
    return _read_secret(path)


def _read_secret(path: Path) -> bytes:
    secret = path.read_bytes()
    if len(secret) < MIN_SECRET_LENGTH:
        raise SettingsError(f"{path} is damaged; remove it, and another is drawn: sessions and webhooks begin anew.")
    return secret


def derive_secret(secret: bytes, purpose: str) -> str:
    """Derive a secret for one purpose, from which the others cannot be told."""
    return b64encode(hmac.digest(secret, purpose.encode(), "sha256")).decode()
