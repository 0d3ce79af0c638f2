"""Create the first API token of a new ledger and show it to whoever started it, and nobody else."""

import errno
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final, LiteralString
from uuid import uuid4

from api.cli.ending import run
from api.clock_and_ids import operator_name
from api.deployment import open_ledger
from api.settings import Settings
from domain.api_token.token import DEFAULT_LIFETIME, ApiToken
from domain.authority import Operator
from domain.commands import NewApiToken
from domain.files.whole_file import whole_file
from domain.postgres.connection import open_connection
from domain.postgres.embedded.error import EmbeddedPostgresError
from domain.postgres.embedded.server import default_base_dir
from domain.secret import Secret

FILE_NAME: Final = "first-api-token"
_ONE_AT_A_TIME: Final[LiteralString] = "SELECT pg_advisory_lock(7239075821)"
"""Of several services that start on one new ledger, one makes the token."""


def hand_over(settings: Settings, *, url: str) -> None:
    """On an empty ledger, make an API token and show it:
    in the terminal, or in a file for its owner alone.

    What is not a terminal is a log, which others read and which is kept. Where no file can be
    written, no token is made: one that nobody has would be good for 90 days.
    """
    assert settings.database_url is not None
    with open_connection(settings.database_url) as connection:
        connection.execute(_ONE_AT_A_TIME)
        if connection.execute("SELECT EXISTS (SELECT FROM ledger.events)").fetchone() == (True,):
            return
        if settings.first_token_file is None and sys.stdout.isatty():
            print(_welcome(*run(_create(settings)), url=url), flush=True)
            return
        try:
            path = _free_place(settings)
            if not path.parent.exists():
                path.parent.mkdir(mode=0o700, parents=True)
            with whole_file(path) as file:
                token, secret = run(_create(settings))
                file.write(f"{secret.reveal()}\n".encode())
        except (OSError, EmbeddedPostgresError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            _tell(
                f"its first API token has nowhere to go ({reason}): "
                f"scim-ledger api-token create makes one"
            )
            return
        _tell(f"its first API token, of user {token.user_id}, is in the file {path}")


def _tell(what: str) -> None:
    print(f"scim-ledger: this ledger is new, {what}", file=sys.stderr, flush=True)


def _free_place(settings: Settings) -> Path:
    """Where the token goes.

    Raises FileExistsError where nobody has named a place, and the usual one has another ledger's.
    """
    if settings.first_token_file is not None:
        return settings.first_token_file.absolute()
    place = (settings.data_dir or default_base_dir()).absolute() / FILE_NAME
    if place.exists():
        raise FileExistsError(errno.EEXIST, f"{place} is there, of another ledger")
    return place


async def _create(settings: Settings) -> tuple[ApiToken, Secret]:
    async with open_ledger(settings) as ledger:
        lifetime = timedelta(DEFAULT_LIFETIME.days)
        ask = NewApiToken(uuid4(), teams=None, permissions=None, lifetime=lifetime)
        return await ledger.create_api_token(ask, by=Operator(name=operator_name()))


def _welcome(api_token: ApiToken, secret: Secret, *, url: str) -> str:
    return f"""
This ledger is new. Its first API token is shown once, now, and cannot be retrieved later:

  {secret.reveal()}

It acts for user {api_token.user_id} and expires in {DEFAULT_LIFETIME.days} days.
Create a SCIM token with it:

  curl -X POST {url}/scim-token -H 'Authorization: Bearer {secret.reveal()}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"team_id": "05daecaf-4365-42e8-8370-8127de5dd717", "name": "Okta provisioning"}}'
"""
