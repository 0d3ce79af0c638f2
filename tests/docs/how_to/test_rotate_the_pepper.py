"""docs/how-to/rotate-the-pepper.md to its end, on the machine that own-postgresql.md prescribes."""

import json
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest

from tests.docs import prescribed
from tests.docs.documents import blocks
from tests.docs.prescribed import Prescribed, migrated
from tests.service import until

pytestmark = pytest.mark.long

CREATE: Final = f"scim-ledger token create --team {uuid4()} --user {uuid4()} --name Okta --json"
AN_HOUR_LATER: Final = """
    UPDATE ledger.pepper_generations SET recorded_at = recorded_at - interval '2 hours';
    UPDATE ledger.migrations SET applied_at = applied_at - interval '1 day'
"""


@pytest.fixture
def machine() -> Iterator[Prescribed]:
    with prescribed.prescribed() as made:
        yield migrated(made)


def only(word: str) -> str:
    (script,) = blocks(word, document="docs/how-to/rotate-the-pepper.md")
    return script


def administer(machine: Prescribed, script: str) -> None:
    """What the how-to has its reader wait for."""
    conninfo = machine.server.conninfo(user="postgres", dbname="scim_ledger")
    with psycopg.connect(conninfo, autocommit=True) as administrator:
        administrator.execute(script.encode())


def keys(machine: Prescribed) -> list[list[str]]:
    """Of each key: its generation, when it was added, and its digests of each kind."""
    return [line.split()[:5] for line in machine.good(only("keys")).splitlines()[1:]]


def ask(machine: Prescribed, url: str, secret: str) -> None:
    machine.good(f"curl -sf {url}/gateway/forward -H 'Authorization: Bearer {secret}'")


def as_the_app_role(machine: Prescribed, script: str) -> str:
    """Whoever is not the owner."""
    return machine.run(f"unset SCIM_LEDGER_OWNER_DATABASE_URL\n{script}").stderr


def trail(machine: Prescribed) -> Any:
    return json.loads(machine.good("scim-ledger audit list --kind pepper.retired --json"))


def test_a_key_is_added_waited_for_retired_and_taken_out(machine: Prescribed) -> None:
    used, unused = (json.loads(machine.good(CREATE)) for _ in range(2))
    caller = json.loads(machine.good(f"scim-ledger api-token create --user {uuid4()} --json"))
    machine.good(only("add"))
    assert len({*(machine.directory / "pepper").read_text().split()}) == 2
    with machine.serving() as url:
        newer = json.loads(machine.good(CREATE))
        for token in (used, newer):
            ask(machine, url, token["token"])
        assert [row[0] for row in keys(machine)] == ["1", "2"]
        assert keys(machine)[0][2:] == ["2", "1", "0"], "a rotation refuses nobody, and waits"

    administer(machine, AN_HOUR_LATER)
    with machine.serving() as url:
        whoami = f"curl -sf {url}/whoami -H 'Authorization: Bearer {caller['token']}'"

        def has_moved() -> bool:
            ask(machine, url, used["token"])
            machine.good(whoami)
            return keys(machine)[0][2:] == ["1", "0", "0"]

        until(has_moved, timeout_s=60, what="the secrets that are used")
        refused = machine.run(only("retire"))
        assert refused.returncode == 1
        assert unused["id"] in refused.stderr
        assert "rotate or revoke" in refused.stderr
        machine.good(f"scim-ledger token rotate {unused['id']} --overlap-seconds 0")
        assert "it takes the owner" in as_the_app_role(machine, only("retire"))
        machine.good(only("retire"))
        for token in (used, newer):
            ask(machine, url, token["token"])
        (fact,) = trail(machine)
        assert (fact["reason"], fact["note"]) == ("the yearly rotation", "key 1")

    machine.good(only("replace"))
    first, second = (machine.directory / "pepper").read_text().split()
    assert first == "retired"
    assert (machine.directory / "pepper.before").read_text().split()[1] == second
    with machine.serving() as url:
        for token in (used, newer):
            ask(machine, url, token["token"])
        machine.good("scim-ledger verify")
        assert "all 2 are those of the ledger, 1 of them retired" in machine.good(
            "scim-ledger doctor"
        )
