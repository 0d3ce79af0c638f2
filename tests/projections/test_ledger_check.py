"""`scim-ledger verify` and `projections verify` name each way in which the
store could be damaged.
"""

import asyncio
import json
import subprocess
import sys
from itertools import product
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import NewApiToken, NewScimToken
from domain.eventstore.peppers.fingerprints import record_pepper
from domain.scim_token.events import Presentation
from domain.scim_token.networks.decide import NETWORKS_MAX
from projections import kept_rows, ledger_check
from projections.ledger_check import check_ledger
from projections.rebuild.run import check_view
from projections.registry import PROJECTIONS
from tests.api.cli import forked_cli
from tests.benchmarks.seed import seed
from tests.conftest import PEPPER, Database, catch_up, new_database, open_ledger
from tests.projections.given_events import select
from tests.service import service_environment
from tests.turns import by_turns

SECRET_TEXT = "hunter2"
NOBODY = UUID(int=7)
TABLES = (
    "events",
    "stream_heads",
    "aggregates",
    "api_tokens",
    "secrets",
    "projection_positions",
)
TOKEN = "(SELECT originator_id FROM ledger.events WHERE topic = 'scim_token.rotated.v1')"
OF_TOKEN = f"WHERE originator_id = {TOKEN}"
DAMAGES = {
    "a version is missing": (
        f"DELETE FROM ledger.events {OF_TOKEN} AND originator_version = 2",
        "(scim_token.rotated.v1, version 3 of {token}): version 2 is missing before it",
    ),
    "the last version is missing": (
        f"DELETE FROM ledger.events {OF_TOKEN} AND originator_version = 4",
        "the head of {token}: its version is not what the events lead to",
    ),
    "a stream has no beginning": (
        (
            f"UPDATE ledger.events SET originator_id = '{NOBODY}' {OF_TOKEN} "
            f"AND originator_version = 3"
        ),
        "version 1 is missing before it",
    ),
    "an event cannot be decoded": (
        (
            f"UPDATE ledger.events "
            f"SET state = '{{\"{SECRET_TEXT}\"' {OF_TOKEN} AND originator_version = 3"
        ),
        "the stored state of a scim_token.rotated.v1 is not what its version holds",
    ),
    "an event is of an unknown kind": (
        (
            f"UPDATE ledger.events SET topic = 'scim_token.sold.v1' {OF_TOKEN} "
            f"AND originator_version = 3"
        ),
        "no event is registered under the topic 'scim_token.sold.v1'",
    ),
    "an event cannot follow": (
        (
            f"UPDATE ledger.events e SET topic = f.topic, state = f.state FROM ledger.events f "
            f"WHERE e.originator_id = {TOKEN} AND e.originator_version = 2 "
            "AND f.originator_id = e.originator_id AND f.originator_version = 1"
        ),
        "it cannot follow what is before it (AssertionError)",
    ),
    "time goes back": (
        (
            f"UPDATE ledger.events SET at = at - interval '1 hour' {OF_TOKEN} "
            f"AND originator_version = 4"
        ),
        "ledger time went back",
    ),
    "events are out of order": (
        (
            "UPDATE ledger.events SET notification_id = notification_id + 1000, "
            f"at = (SELECT max(at) FROM ledger.events) {OF_TOKEN} AND originator_version = 2"
        ),
        "it is before its predecessor in the ledger",
    ),
    "a head is behind": (
        f"UPDATE ledger.stream_heads SET version = version - 1 {OF_TOKEN}",
        "the head of {token}: its version is not what the events lead to",
    ),
    "uses are lost": (
        f"UPDATE ledger.stream_heads SET uses = uses - 1 {OF_TOKEN}",
        "the head of {token}: its uses is not what the events lead to",
    ),
    "a head is missing": (
        f"DELETE FROM ledger.stream_heads {OF_TOKEN}",
        "the head of {token}: it is missing",
    ),
    "a head is there twice": (
        (
            f"INSERT INTO ledger.stream_heads "
            f"SELECT originator_id, version, last_used_at, uses, chapter + 1 "
            f"FROM ledger.stream_heads {OF_TOKEN}"
        ),
        "the head of {token}: there is more than one",
    ),
    "a head is too many": (
        f"INSERT INTO ledger.stream_heads (originator_id, version) VALUES ('{NOBODY}', 1)",
        f"the head of {NOBODY}: no event tells of it",
    ),
    "an API token is not listed": (
        "DELETE FROM ledger.api_tokens",
        "it is not what the state row says",
    ),
    "an API token is listed as over": (
        "UPDATE ledger.api_tokens SET good_until = '-infinity'",
        "it is not what the state row says",
    ),
    "an API token is listed that is none": (
        f"INSERT INTO ledger.api_tokens VALUES ('{NOBODY}', now(), now(), NULL, true, false, NULL)",
        f"the list row of {NOBODY}: no event tells of it",
    ),
    "a state differs": (
        (
            f"UPDATE ledger.aggregates SET state = "
            f"convert_to(replace(convert_from(state, 'UTF8'), 'Okta', "
            f"'{SECRET_TEXT}'), 'UTF8') {OF_TOKEN}"
        ),
        "the state row of {token}: it is not what the events lead to",
    ),
    "a state cannot be decoded": (
        f"UPDATE ledger.aggregates SET state = '{{\"{SECRET_TEXT}\"' {OF_TOKEN}",
        "the state row of {token}: it cannot be decoded",
    ),
    "a state is missing": (
        f"DELETE FROM ledger.aggregates {OF_TOKEN}",
        "the state row of {token}: it is missing",
    ),
    "a state is of another kind": (
        f"UPDATE ledger.aggregates SET kind = 'api_token' {OF_TOKEN}",
        "the state row of {token}: it is of another kind than the events",
    ),
    "a void secret is good": (
        (
            f"UPDATE ledger.secrets SET good_until = 'infinity' {OF_TOKEN} "
            f"AND digest = (SELECT digest FROM ledger.secrets {OF_TOKEN} ORDER BY digest LIMIT 1)"
        ),
        "the secrets of {token}: one stands otherwise than the events say",
    ),
    "a secret is missing": (
        (
            f"DELETE FROM ledger.secrets WHERE digest = "
            f"(SELECT digest FROM ledger.secrets {OF_TOKEN} ORDER BY digest LIMIT 1)"
        ),
        "the secrets of {token}: one that the events tell of is missing",
    ),
    "a secret is too many": (
        (
            f"INSERT INTO ledger.secrets SELECT sha256('x'), originator_id, owner_id, good_until "
            f"FROM ledger.secrets {OF_TOKEN} LIMIT 1"
        ),
        "the secrets of {token}: there is one that no event tells of",
    ),
    "a secret is of nobody": (
        (f"INSERT INTO ledger.secrets VALUES (sha256('x'), '{NOBODY}', NULL, 'infinity')"),
        f"the secret of {NOBODY}: no event tells of it",
    ),
    "a view is ahead": (
        "UPDATE ledger.projection_positions SET position = 1000000 WHERE name = 'usage'",
        "the view usage: its position is beyond the ledger's head",
    ),
    "a view has no table": (
        "UPDATE ledger.projection_positions SET version = 7 WHERE name = 'usage'",
        "the view usage: the table of its version 7 is missing",
    ),
}


async def fill(database: Database) -> None:
    """A token that was used, rotated and revoked, among others and an API token."""
    async with open_ledger(database.app) as ledger:
        ask = NewScimToken(uuid4(), "Okta")
        token, secret = await ledger.create_scim_token(ask, by=Operator(uuid4()))
        await ledger.authenticate(secret, Presentation(door="scim"))
        await ledger.rotate_scim_token(token.id, by=Operator(uuid4()))
        await ledger.revoke_scim_token(token.id, by=Operator())
        for _ in range(3):
            await ledger.create_scim_token(ask, by=Operator(uuid4()))
        await ledger.create_api_token(NewApiToken(uuid4(), None, tuple(Permission), None))
    catch_up(database)


@pytest.fixture(scope="module")
def filled(server: str) -> Database:  # type: ignore[misc]
    """One ledger for all damages: each is repaired before the next."""
    with new_database(server) as database:
        asyncio.run(fill(database))
        with psycopg.connect(database.owner, autocommit=True) as owner:
            for table in TABLES:
                owner.execute(f"CREATE TABLE ledger.good_{table} AS TABLE ledger.{table}")
        yield database


def read_in_slices_of(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ledger_check, kept_rows):
        monkeypatch.setattr(module, "SLICE", rows)
    monkeypatch.setattr(ledger_check, "STREAMS", rows)


@pytest.mark.parametrize("streams", [1, 2, 1000])
def test_a_good_ledger_is_found_good(
    filled: Database, monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    read_in_slices_of(streams, monkeypatch)
    with psycopg.connect(filled.app, autocommit=True) as connection:
        verified = check_ledger(connection)
    assert (verified.events, verified.streams, verified.damage) == (8, 5, None)


@pytest.mark.parametrize("damage", by_turns(DAMAGES, one_of=3))
def test_each_damage_is_found_and_named(
    filled: Database, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Wherever the slices end in which the ledger is read."""
    statement, expected = DAMAGES[damage]
    ((token,),) = select(filled, f"SELECT {TOKEN}")
    with psycopg.connect(filled.owner, autocommit=True) as owner:
        assert owner.execute(statement.encode()).rowcount == 1
        try:
            with psycopg.connect(filled.app, autocommit=True) as connection:
                found = check_ledger(connection).damage
                for rows in (1, 2):
                    read_in_slices_of(rows, monkeypatch)
                    assert check_ledger(connection).damage == found
        finally:
            for table in TABLES:
                owner.execute(f"TRUNCATE ledger.{table}")
                owner.execute(f"INSERT INTO ledger.{table} TABLE ledger.good_{table}")
    assert found is not None
    assert str(found).endswith(expected.format(token=token))
    assert SECRET_TEXT not in str(found)


@pytest.mark.parametrize(
    ("stream", "version", "said"),
    [
        ("gen_random_uuid()", "1", "event 4: there is another one at its position"),
        (TOKEN, "4", "version 4 of {token}): version 5 is missing before it"),
    ],
)
def test_two_events_of_one_place_are_found_wherever_a_slice_ends(
    database: Database, monkeypatch: pytest.MonkeyPatch, stream: str, version: str, said: str
) -> None:
    """The unique indexes are none of a table that inherits from the events."""
    asyncio.run(fill(database))
    ((token,),) = select(database, f"SELECT {TOKEN}")
    last = "(SELECT max(notification_id) + 1 FROM ledger.events)"
    position, at = ("4", "at") if version == "1" else (last, "now()")
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute("CREATE TABLE ledger.more () INHERITS (ledger.events)")
        owner.execute(
            f"INSERT INTO ledger.more SELECT {position}, {stream}, {version}, topic, {at}, "
            "gen_random_uuid(), state FROM ledger.events "
            "WHERE topic = 'scim_token.revoked.v1'".encode()
        )
    with psycopg.connect(database.app, autocommit=True) as connection:
        for rows in (10_000, 4, 2, 1):
            read_in_slices_of(rows, monkeypatch)
            found = check_ledger(connection).damage
            assert str(found).endswith(said.format(token=token))


@pytest.mark.parametrize(
    "projection", by_turns(PROJECTIONS, one_of=3), ids=lambda projection: projection.name
)
def test_a_good_view_is_found_good_and_nothing_is_left(
    database: Database, projection: object
) -> None:
    asyncio.run(fill(database))
    before = select(
        database, "SELECT name, version, position, role FROM ledger.projection_positions"
    )
    with psycopg.connect(database.app, autocommit=True) as connection:
        for each in PROJECTIONS:
            if each is projection:
                assert check_view(connection, each) is None
    assert (
        select(database, "SELECT name, version, position, role FROM ledger.projection_positions")
        == before
    )
    assert select(database, "SELECT relname FROM pg_class WHERE relname ~ '_v2$'") == []


VIEW_DAMAGES = {
    "changed": ("UPDATE {table} SET name = 'hunter2' WHERE id = '{id}'", "differs in name"),
    "missing": ("DELETE FROM {table} WHERE id = '{id}'", "is missing"),
    "too many": (
        (
            "INSERT INTO {table} (id, team_id, name, created_by, created_at, updated_at, "
            "before_use, last_use, after_use) SELECT '{other}', team_id, name, created_by, "
            "created_at, updated_at, before_use, last_use, after_use FROM {table} WHERE id = '{id}'"
        ),
        "should not be there",
    ),
}


@pytest.mark.parametrize(
    "network", ["192.0.2.7", "2001:db8::/32", "::/0", "::5", "::1.2.3.0/120", "::1.2.3.4"]
)
def test_networks_are_compared_whatever_the_database_s_spelling(
    database: Database, network: str
) -> None:
    """Of an address of 32 bits in IPv6 it is another one than ours; a wrong one is found."""

    async def restrict() -> None:
        async with open_ledger(database.app) as ledger:
            asked = NewScimToken(uuid4(), "Okta")
            token, _ = await ledger.create_scim_token(asked, by=Operator(uuid4()))
            await ledger.allow_networks(token.id, [network, "192.0.2.0/24"], by=Operator())

    asyncio.run(restrict())
    with psycopg.connect(database.app, autocommit=True) as connection:
        assert check_ledger(connection).damage is None
        connection.execute("UPDATE ledger.secrets SET networks[2] = '192.0.2.1/24'")
        damage = check_ledger(connection).damage
    assert damage is not None
    assert "one stands otherwise than the events say" in str(damage)


@pytest.mark.parametrize("damage", VIEW_DAMAGES)
def test_a_damaged_row_of_a_view_is_named(database: Database, damage: str) -> None:
    statement, expected = VIEW_DAMAGES[damage]
    asyncio.run(fill(database))
    ((id_,), *_) = select(database, "SELECT id FROM views.scim_tokens_v1 ORDER BY id OFFSET 2")
    other = uuid4()
    with psycopg.connect(database.app, autocommit=True) as connection:
        text = statement.format(table="views.scim_tokens_v1", id=id_, other=other)
        assert connection.execute(text.encode()).rowcount == 1
        difference = check_view(connection, PROJECTIONS[0])
    named = other if damage == "too many" else id_
    assert str(difference) == f"scim_tokens: the row {named} {expected}"


@pytest.mark.long
def test_the_commands_say_it_with_their_exit_codes(database: Database) -> None:
    asyncio.run(fill(database))
    environment = service_environment(database.app)
    good = forked_cli.run(["verify", "--json"], environment)
    assert (good.exit_code, json.loads(good.stdout)) == (
        0,
        {"events": 8, "streams": 5, "damage": None},
    )
    assert forked_cli.run(["projections", "verify"], environment).exit_code == 0
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute(f"UPDATE ledger.stream_heads SET uses = 7 {OF_TOKEN}")
        owner.execute(
            "UPDATE views.scim_tokens_v1 SET name = 'hunter2' WHERE revoked_at IS NOT NULL"
        )
    damaged = forked_cli.run(["verify"], environment)
    assert damaged.exit_code == 1
    assert "its uses is not what the events lead to" in damaged.stdout
    views = forked_cli.run(["projections", "verify", "--json"], environment)
    assert views.exit_code == 1
    assert [each["is_good"] for each in json.loads(views.stdout)] == [False, True, True, True]


def test_networks_are_the_same_however_either_side_spells_them(database: Database) -> None:
    """Each pattern of zeros in an IPv6 address: PostgreSQL shortens some in another way."""
    spelled = [":".join(groups) for groups in product("02", repeat=8)]
    networks = [*(f"{address}/128" for address in spelled), "192.0.2.7", "192.0.2.0/24"]

    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            by = Operator(uuid4())
            for start in range(0, len(networks), NETWORKS_MAX):
                ask = NewScimToken(uuid4(), "Okta")
                token, _ = await ledger.create_scim_token(ask, by=by)
                part = networks[start : start + NETWORKS_MAX]
                await ledger.allow_networks(token.id, part, by=by)

    asyncio.run(main())
    with psycopg.connect(database.app) as connection:
        assert check_ledger(connection).damage is None


def test_a_seeded_ledger_is_as_a_service_leaves_one(database: Database) -> None:
    """The pepper that its first start would write down is on record, too."""
    seed(database.owner, pepper=PEPPER, tokens=300, uses_each=1, secrets=10)
    with psycopg.connect(database.app) as connection:
        assert check_ledger(connection).damage is None
        assert record_pepper(connection, PEPPER) == 0


@pytest.mark.slow
def test_memory_does_not_grow_with_the_ledger(server: str) -> None:
    """A verification and a rebuild of a million events, each in a process of its own,
    in half a gigabyte.
    """
    program = (
        "import sys, psycopg\n"
        "from projections.ledger_check import check_ledger\n"
        "from projections.rebuild.run import rebuild\n"
        "from projections.registry import PROJECTIONS\n"
        "connection = psycopg.connect(sys.argv[1], autocommit=True)\n"
        "if sys.argv[2] == 'ledger': assert check_ledger(connection).damage is None\n"
        "else: rebuild(connection, {p.name: p for p in PROJECTIONS}[sys.argv[2]])\n"
        "(peak,) = (line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(int(peak.split()[1]) // 1024)\n"
    )
    with new_database(server) as database:
        seed(database.owner, pepper=PEPPER, tokens=100_000, uses_each=9, secrets=1)
        for what, limit_mb in (("ledger", 120), ("scim_tokens", 500), ("audit_trail", 500)):
            done = subprocess.run(
                [sys.executable, "-c", program, database.app, what],
                check=True,
                capture_output=True,
                text=True,
            )
            assert int(done.stdout.split()[-1]) < limit_mb, what
