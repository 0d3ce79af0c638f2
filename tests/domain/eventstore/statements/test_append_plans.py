"""What an append asks is found by key, also where it was planned while the ledger was empty."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString
from uuid import uuid4

import psycopg
import pytest

from domain.eventstore import append
from domain.eventstore.event_registry import REGISTRY
from domain.postgres import binary_arrays
from domain.postgres.connection import open_connection
from domain.postgres.session import SERVING
from tests.conftest import Database
from tests.turns import by_turns

IDS: Final = binary_arrays.uuids([uuid4()])
NOW: Final = datetime.now(UTC)
ASKED: Final[dict[str, tuple[LiteralString, Any]]] = {
    "load": (append.LOAD, [IDS]),
    "known commands": (append.KNOWN_COMMANDS, [IDS, NOW]),
    "touch commands": (append.TOUCH_COMMANDS, [IDS]),
    "put commands": (
        append.PUT_COMMANDS,
        [NOW, IDS, IDS, IDS, binary_arrays.byteas([b"request"])],
    ),
    "live tokens": (append.LIVE_TOKENS, [IDS, NOW]),
    "store": (append.STORE, append.columns(REGISTRY, [], {}, [])),
}


@pytest.mark.parametrize("name", by_turns(ASKED, one_of=2))
def test_no_table_is_read_from_end_to_end(name: str, database: Database) -> None:
    statement, parameters = ASKED[name]
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE")  # known to be empty: to read all of a table is cheapest
    with open_connection(database.app, session=SERVING) as connection:
        plan = connection.execute(f"EXPLAIN {statement}".encode(), parameters).fetchall()
    told = "\n".join(line for (line,) in plan)
    assert "Seq Scan" not in told, told


def test_a_count_of_live_tokens_does_not_read_what_has_expired(database: Database) -> None:
    team, now = uuid4(), datetime.now(UTC)
    made = "INSERT INTO ledger.secrets (digest, originator_id, owner_id, good_until) SELECT \
        sha256((%(good)s || '-' || i)::bytea), gen_random_uuid(), %(team)s, %(good)s::timestamptz \
        FROM generate_series(1, %(count)s) i"
    past, future = now - timedelta(days=1), now + timedelta(days=1)
    with psycopg.connect(database.owner, autocommit=True) as owner:
        for good, count in ((past, 5000), (future, 3), ("infinity", 2), ("-infinity", 4)):
            owner.execute(made, {"good": str(good), "team": team, "count": count})
        owner.execute("VACUUM ANALYZE ledger.secrets")
    with open_connection(database.app, session=SERVING) as connection:
        asked = [[team], now]
        assert connection.execute(append.LIVE_TOKENS, asked).fetchall() == [(team, 5)]
        plan = connection.execute(f"EXPLAIN ANALYZE {append.LIVE_TOKENS}".encode(), asked)
        told = "\n".join(line for (line,) in plan)
    assert "secrets_good_of_team" in told, told
    assert "Rows Removed" not in told, told
