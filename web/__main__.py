"""The keys of this instance: ``python -m web keys create NAME``."""

import argparse
import sys

from shared import keys
from shared.database import Database
from shared.errors import MindjobsError
from shared.migrate import migrate
from shared.settings import load_settings


def _create(database: Database, arguments: argparse.Namespace) -> str:
    migrate(database)  # the first key may come before the first start
    key = keys.create_key(database, arguments.name, adopt=arguments.adopt)
    return f"{key}\n\nThis is the key {arguments.name}. It is shown this once; what is kept is its hash alone.\n"


def _list(database: Database, _: argparse.Namespace) -> str:
    return "".join(f"{key.created_at:%Y-%m-%d %H:%M} {key.name}\n" for key in keys.list_keys(database))


def _revoke(database: Database, arguments: argparse.Namespace) -> str:
    keys.revoke_key(database, arguments.name)
    return f"The key {arguments.name} opens nothing any more.\n"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m web", description=__doc__)
    actions = parser.add_subparsers(required=True).add_parser("keys").add_subparsers(required=True)
    create = actions.add_parser("create", help="make a key and print it")
    create.add_argument("name", help="whose it is, for you to remember")
    create.add_argument("--adopt", action="store_true", help="give it the jobs and uploads from before the first key")
    create.set_defaults(act=_create)
    actions.add_parser("list", help="list the keys' names").set_defaults(act=_list)
    revoke = actions.add_parser("revoke", help="let a key open nothing any more")
    revoke.add_argument("name")
    revoke.set_defaults(act=_revoke)
    return parser.parse_args()


def main() -> None:
    """Do what is asked for."""
    arguments = _parse()
    try:
        database = Database(load_settings().database)
        sys.stdout.write(arguments.act(database, arguments))
        database.close()
    except MindjobsError as error:
        sys.exit(f"mindjobs: {error.title}: {error.detail}")


if __name__ == "__main__":
    main()
