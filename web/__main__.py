"""The keys of this instance: ``python -m web keys create NAME``."""

import argparse
import sys
from contextlib import closing

from sqlalchemy.exc import SQLAlchemyError

from shared import api_keys
from shared.database.connection import Database
from shared.database.migrate import migrate
from shared.database.tables import NAME_LENGTH
from shared.errors import MindjobsError
from shared.jobs import ANONYMOUS
from shared.settings import Settings, load_settings
from shared.webhooks.messages import load_signing_secret


def _create(settings: Settings, database: Database, arguments: argparse.Namespace) -> str:
    key = api_keys.create_key(database, arguments.name, adopt=arguments.adopt)
    return (
        f"{key}\n\nThis is the key {arguments.name}. It is shown this once; what is kept is its hash alone.\n"
        f"What its webhooks receive is signed with {_load_secret(settings, database, arguments.name)}\n"
    )


def _list(_settings: Settings, database: Database, _: argparse.Namespace) -> str:
    return "".join(f"{key.created_at:%Y-%m-%d %H:%M} {key.name}\n" for key in api_keys.list_keys(database))


def _revoke(_settings: Settings, database: Database, arguments: argparse.Namespace) -> str:
    api_keys.revoke_key(database, arguments.name)
    return f"The key {arguments.name} opens nothing any more.\n"


def _show_secret(settings: Settings, database: Database, arguments: argparse.Namespace) -> str:
    return f"{_load_secret(settings, database, arguments.name)}\n"


def _load_secret(settings: Settings, database: Database, name: str | None) -> str:
    return load_signing_secret(settings, ANONYMOUS if name is None else api_keys.find_key(database, name).id)


def _read_name(text: str) -> str:
    if not 0 < len(text) <= NAME_LENGTH or not text.isprintable():
        raise argparse.ArgumentTypeError(f"a name is one line of 1 to {NAME_LENGTH} characters")
    return text


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m web", description=__doc__)
    actions = parser.add_subparsers(required=True).add_parser("keys").add_subparsers(required=True)
    create = actions.add_parser("create", help="make a key and print it")
    create.add_argument("name", type=_read_name, help="whose it is, for you to remember")
    create.add_argument("--adopt", action="store_true", help="give it the jobs and uploads from before the first key")
    create.set_defaults(act=_create)
    actions.add_parser("list", help="list the keys' names").set_defaults(act=_list)
    revoke = actions.add_parser("revoke", help="let a key open nothing any more")
    revoke.add_argument("name")
    revoke.set_defaults(act=_revoke)
    secret = actions.add_parser("secret", help="print what signs the messages to a key's webhooks")
    secret.add_argument("name", nargs="?", help="the key's; without it, that of jobs submitted without a key")
    secret.set_defaults(act=_show_secret)
    return parser.parse_args()


def main() -> None:
    """Do what is asked for."""
    arguments = _parse()
    try:
        settings = load_settings()
        with closing(Database(settings.database)) as database:
            migrate(database)  # the first key may come before the first start
            sys.stdout.write(arguments.act(settings, database, arguments))
    except MindjobsError as error:
        sys.exit(f"mindjobs: {error.title}: {error.detail}")
    except SQLAlchemyError as error:
        sys.exit(f"mindjobs: MINDJOBS_DATABASE_URL: the database does not answer: {error}")


if __name__ == "__main__":
    main()
