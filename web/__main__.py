"""Manages the API keys of this instance: ``python -m web keys create NAME``."""

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
from shared.roles import Role
from shared.settings import Settings, load_settings
from shared.state_folder import protect_state
from shared.webhooks.messages import load_signing_secret


def _create(settings: Settings, database: Database, arguments: argparse.Namespace) -> str:
    role = Role.OPERATOR if arguments.operator else Role.USER
    key = api_keys.create_key(database, arguments.name, role=role, adopt=arguments.adopt)
    return (
        f"{key}\n\nThis is the key {arguments.name}. It cannot be shown again: only its hash is stored.\n"
        f"Messages to its webhooks are signed with {_load_secret(settings, database, arguments.name)}\n"
    )


def _list(_settings: Settings, database: Database, _: argparse.Namespace) -> str:
    keys = api_keys.list_keys(database)
    return "".join(f"{key.created_at:%Y-%m-%d %H:%M} {key.role:8} {key.name}\n" for key in keys)


def _revoke(_settings: Settings, database: Database, arguments: argparse.Namespace) -> str:
    api_keys.revoke_key(database, arguments.name)
    return f"The key {arguments.name} is revoked.\n"


def _open(_settings: Settings, database: Database, _: argparse.Namespace) -> str:
    api_keys.open_service(database)
    return "The service is open: on loopback, no key is needed until the next one is created.\n"


def _show_secret(settings: Settings, database: Database, arguments: argparse.Namespace) -> str:
    return f"{_load_secret(settings, database, arguments.name)}\n"


def _load_secret(settings: Settings, database: Database, name: str | None) -> str:
    return load_signing_secret(settings, ANONYMOUS if name is None else api_keys.find_key(database, name).id)


def _read_name(text: str) -> str:
    if not 0 < len(text) <= NAME_LENGTH or not text.isprintable():
        raise argparse.ArgumentTypeError(f"a name is one line of 1 to {NAME_LENGTH} characters")
    return text


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m web", description=__doc__)
    actions = parser.add_subparsers(required=True).add_parser("keys").add_subparsers(required=True)
    create = actions.add_parser("create", help="create a key and print it")
    create.add_argument("name", type=_read_name, help="name of the key in lists, for example the name of its user")
    create.add_argument(
        "--adopt", action="store_true", help="give the key the jobs and uploads that were submitted without a key"
    )
    create.add_argument("--operator", action="store_true", help="let the key operate the instance")
    create.set_defaults(act=_create)
    actions.add_parser("list", help="list the keys, with their roles").set_defaults(act=_list)
    revoke = actions.add_parser("revoke", help="revoke a key")
    revoke.add_argument("name")
    revoke.set_defaults(act=_revoke)
    opening = actions.add_parser("open", help="require no key on loopback again, after all keys were revoked")
    opening.set_defaults(act=_open)
    secret = actions.add_parser("secret", help="print the secret that signs the messages to a key's webhooks")
    secret.add_argument(
        "name", nargs="?", help="name of the key; if it is not given, the secret of jobs without a key is printed"
    )
    secret.set_defaults(act=_show_secret)
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    arguments = _parse_arguments()
    try:
        settings = load_settings()
        protect_state(settings)
        with closing(Database(settings.database)) as database:
            migrate(database)  # keys can be created before the instance starts for the first time
            sys.stdout.write(arguments.act(settings, database, arguments))
    except MindjobsError as error:
        sys.exit(f"mindjobs: {error.title}: {error.detail}")
    except SQLAlchemyError as error:
        sys.exit(f"mindjobs: MINDJOBS_DATABASE_URL: the database does not answer: {error}")


if __name__ == "__main__":
    main()
