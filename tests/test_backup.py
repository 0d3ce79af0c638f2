"""The commands of docs/how-to/back-up-and-restore.md, as they are: a dump of a ledger, restored elsewhere."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import psycopg
import pytest

from domain.errors import TokenRevoked, TokenUnknown
from domain.ledger import NewScimToken, Operator
from domain.scim_token import Presentation
from domain.secret import Secret
from projections.registry import PROJECTIONS
from projections.runner import Runner
from tests import postgres_programs
from tests.conftest import Database, new_database, open_ledger
from tests.documents import blocks
from tests.service import service_environment

DOCUMENT: Final = "docs/how-to/back-up-and-restore.md"
SCIM: Final = Presentation(door="scim")


@pytest.fixture
def empty(server: str) -> Iterator[Database]:
    """A database without anything in it, as a restore needs one."""
    with new_database(server, template="template0") as made:
        yield made


def run(word: str, database: Database, directory: Path) -> None:
    """The document's block of that word, in a shell."""
    (script,) = blocks(word, document=DOCUMENT)
    programs = [str(Path(sys.executable).parent), str(postgres_programs.directory()), os.environ["PATH"]]
    environment = service_environment(
        database.app, SCIM_LEDGER_OWNER_DATABASE_URL=database.owner, PATH=os.pathsep.join(programs)
    )
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_dump_is_a_whole_ledger_and_lacks_what_came_after(
    database: Database, empty: Database, tmp_path: Path
) -> None:
    operator = Operator(uuid4())

    async def create() -> tuple[Secret, Secret]:
        """One that was revoked before the backup, one that is revoked after it."""
        async with open_ledger(database.app) as ledger:
            made = [await ledger.create_scim_token(NewScimToken(uuid4(), name), by=operator) for name in "ab"]
            for _, secret in made:
                await ledger.authenticate(secret, SCIM)
            await ledger.revoke_scim_token(made[0][0].id, by=operator)
            return made[0][1], made[1][1]

    async def go_on(secret: Secret) -> Secret:
        async with open_ledger(database.app) as ledger:
            decision = await ledger.authenticate(secret, SCIM)
            await ledger.revoke_scim_token(decision.token_id, by=operator)
            _, later = await ledger.create_scim_token(NewScimToken(uuid4(), "c"), by=operator)
            return later

    async def restored() -> None:
        async with open_ledger(empty.app) as ledger:
            with pytest.raises(TokenRevoked):
                await ledger.authenticate(revoked, SCIM)
            with pytest.raises(TokenUnknown):
                await ledger.authenticate(later, SCIM)
            await ledger.authenticate(good, SCIM)  # as the document warns

    revoked, good = asyncio.run(create())
    with psycopg.connect(database.app, autocommit=True) as connection:
        Runner(database.app, PROJECTIONS).catch_up(connection)
    run("backup", database, tmp_path)
    later = asyncio.run(go_on(good))
    run("restore", empty, tmp_path)
    asyncio.run(restored())
