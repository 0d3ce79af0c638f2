"""The commands of the other how-tos, on the machine that
docs/how-to/own-postgresql.md prescribes.
"""

import json
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest

from tests.docs import prescribed
from tests.docs.documents import blocks
from tests.docs.prescribed import Prescribed, migrated

pytestmark = pytest.mark.long

STOPPED: Final = "docs/how-to/a-stopped-view.md"
CLOCKS: Final = "docs/how-to/clocks.md"
PEPPER: Final = "docs/how-to/rotate-the-pepper.md"
CREATE: Final = f"scim-ledger token create --team {uuid4()} --user {uuid4()} --name Okta --json"


@pytest.fixture(scope="module")
def machine() -> Iterator[Prescribed]:
    """Migrated as the how-to says; one token; its service has run."""
    with prescribed.prescribed() as made:
        migrated(made)
        with made.serving():
            made.good(CREATE)
        yield made


def only(word: str, document: str) -> str:
    (script,) = blocks(word, document=document)
    return script


def administer(machine: Prescribed, statement: str) -> list[tuple[Any, ...]]:
    conninfo = machine.server.conninfo(user="postgres", dbname="scim_ledger")
    with psycopg.connect(conninfo, autocommit=True) as administrator:
        cursor = administrator.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def test_a_stopped_view_is_looked_at_and_mended(machine: Prescribed) -> None:
    administer(
        machine,
        "UPDATE ledger.projection_positions SET stopped_at = 2, error = 'Bug on a token' "
        "WHERE name = 'scim_tokens'",
    )

    def run(word: str) -> str:
        return machine.good(only(word, STOPPED).replace("NAME", "scim_tokens"))

    assert "error: Bug on a token" in run("show")
    assert "damage: -" in run("verify")
    assert "was_stopped: True" in run("retry")
    assert "version: 2" in run("rebuild")
    assert "state: live" in run("show")


def test_the_pepper_is_rotated_and_old_secrets_go_on(machine: Prescribed) -> None:
    old = json.loads(machine.good(CREATE))["token"]
    machine.good(only("add", PEPPER))
    keys = (machine.directory / "pepper").read_text().split()
    assert len(set(keys)) == 2
    with machine.serving() as url:
        new = json.loads(machine.good(CREATE))["token"]
        for secret in (old, new):
            asked = f"curl -sf {url}/gateway/forward -H 'Authorization: Bearer {secret}'"
            machine.good(asked)
    assert administer(machine, "SELECT count(*) FROM ledger.pepper_generations") == [(2,)]


def test_a_lost_pepper_is_given_up_by_the_owner_alone(machine: Prescribed) -> None:
    machine.good(only("repair", CLOCKS))  # nothing to do, and so it says
    script = only("repair", PEPPER)
    denied = machine.run(f"unset SCIM_LEDGER_OWNER_DATABASE_URL\n{script}")
    assert (denied.returncode, denied.stdout) == (1, "")
    lost = machine.directory / "pepper"
    keys = lost.read_text()
    try:
        lost.write_text("k" * 43)
        assert machine.run("scim-ledger token list").returncode == 1
        machine.good(script)
        with machine.serving():
            machine.good(CREATE)
    finally:
        lost.write_text(keys)
