"""API keys, of which only hashes are stored."""

import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute

from shared.database.connection import Database, now
from shared.database.tables import Instance, Job, JobLabel, Key, Upload
from shared.errors import KeysExistError, NameTakenError, NotFoundError
from shared.ids import make_id
from shared.jobs import ANONYMOUS
from shared.roles import Role
from shared.texts import text

PREFIX: Final = "mj_"
"""The beginning of every key. People, and programs that search for leaked secrets, recognise a key by this prefix."""
_BYTES: Final = 32
_ADOPTION_BATCH: Final = 2_000
# The tables whose rows have an owner, each with the column by which a batch of rows is selected.
_OWNED: Final = ((Job, Job.id), (JobLabel, JobLabel.job_id), (Upload, Upload.id))


def create_key(database: Database, name: str, *, role: Role = Role.USER, adopt: bool = False) -> str:
    """Create a key and return it. The key cannot be read again later, because only its hash is stored.

    From now on the service requires keys, until `open_service` is called.

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
    row = insert(Key).values(id=owner, name=name, sha256=hash_key(secret), role=role, created_at=now())
    try:
        with database.writing() as session:
            session.execute(update(Instance).values(keys_required=True))
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


def are_keys_required(database: Database) -> bool:
    """Return whether a key has been created since the service was last open."""
    with database.reading() as session:
        return session.scalars(select(Instance.keys_required)).one()


def open_service(database: Database) -> None:
    """Let a service on loopback require no key until the next key is created.

    Raises
    ------
    KeysExistError
        There are still keys.
    """
    with database.writing() as session:
        # The update comes first: it waits for a transaction that creates a key, and makes later ones wait. So the list
        # of the names contains the key of an earlier transaction, and a later one sets the row again.
        session.execute(update(Instance).values(keys_required=False))
        names = session.scalars(select(Key.name).order_by(Key.id)).all()
        if names:
            raise KeysExistError(text("keys-exist", names=", ".join(names)))


def hash_key(secret: str) -> str:
    """Hash a key or the id of a session. Both have 256 random bits, so no slow hash function is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()
