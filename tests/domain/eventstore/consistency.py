"""What must hold of every ledger at every moment, whatever happened to it."""

from collections import defaultdict
from collections.abc import Iterable
from ipaddress import ip_interface
from typing import Any
from uuid import UUID

import psycopg

from domain.event import Aggregate, Recorded
from domain.eventstore.aggregates import decode_state, ended_secrets, evolve, kind_of
from domain.eventstore.event_registry import REGISTRY
from domain.postgres.sql_file import statements
from domain.scim_token.events import Used
from tests.conftest import Database
from tests.service import until

_EVENTS = """
    SELECT originator_id, originator_version, at, command_id, topic, state
    FROM ledger.events ORDER BY notification_id
"""
_SECRETS = """
    SELECT digest, originator_id, owner_id, CASE WHEN isfinite(good_until) THEN good_until END,
        good_until = '-infinity', coalesce(networks, '{}')
    FROM ledger.secrets
"""


def wait_until_left(database: Database) -> None:
    """Until the server knows that the processes of before have hung up; a repair asks for that."""
    count = statements("domain.eventstore", "sql/repair.sql")["count_services"]
    with psycopg.connect(database.owner, autocommit=True) as owner:
        until(lambda: owner.execute(count).fetchone() == (0,), what="the end of their sessions")


def assert_consistent(database: Database) -> dict[UUID, Aggregate]:
    """Everything beside the events equals what the events lead to; returns that, by aggregate.

    Versions are dense from 1 in commit order, ledger time never goes back, state rows and heads
    equal the replay, secrets stand as the states say, and nothing is there that no event accounts
    for.
    """
    with psycopg.connect(database.owner) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        ledger = [_recorded(row) for row in connection.execute(_EVENTS)]
        heads = {
            id_: (version, last_used_at, uses)
            for id_, version, last_used_at, uses in connection.execute(
                "SELECT originator_id, version, last_used_at, uses FROM ledger.stream_heads"
            )
        }
        rows = connection.execute(
            "SELECT originator_id, kind, state FROM ledger.aggregates"
        ).fetchall()
        secrets = [(*row, _compared(networks)) for *row, networks in connection.execute(_SECRETS)]

    instants = [recorded.at for recorded in ledger]
    assert instants == sorted(instants), "ledger time went back"
    assert all(r.event.first_at <= r.at for r in ledger if isinstance(r.event, Used)), (
        "used before it began"
    )

    streams: dict[UUID, list[Recorded]] = defaultdict(list)
    for recorded in ledger:
        streams[recorded.originator_id].append(recorded)
    for stream in streams.values():
        assert [r.originator_version for r in stream] == list(range(1, len(stream) + 1)), (
            "not dense"
        )
    replayed: dict[UUID, Aggregate] = {}
    ended: list[tuple[Any, ...]] = []
    for id_, stream in streams.items():
        for r in stream:
            before, replayed[id_] = replayed.get(id_), evolve(replayed.get(id_), r)
            ended += [
                (
                    row.digest,
                    id_,
                    replayed[id_].stream_team,
                    row.good_until,
                    False,
                    _compared(row.networks),
                )
                for _, row in ended_secrets(before, replayed[id_], r.event)
            ]

    assert heads == {
        id_: (state.version, state.last_used_at, state.uses) for id_, state in replayed.items()
    }
    assert {id_: kind for id_, kind, _ in rows} == {
        id_: kind_of(s[0]).name for id_, s in streams.items()
    }
    assert {
        id_: decode_state(
            kind, state, version=heads[id_][0], last_used_at=heads[id_][1], uses=heads[id_][2]
        )
        for id_, kind, state in rows
    } == replayed
    assert sorted(secrets, key=_first) == sorted(
        [
            *ended,
            *(
                (
                    row.digest,
                    id_,
                    state.stream_team,
                    None if row.is_void else row.good_until,
                    row.is_void,
                    _compared(row.networks),
                )
                for id_, state in replayed.items()
                for row in state.secret_rows()
            ),
        ],
        key=_first,
    )
    return replayed


def _compared(networks: Iterable[Any]) -> list[Any]:
    """By what they are: PostgreSQL spells some of IPv6 in another way than we do."""
    return [*map(ip_interface, networks)]


def _recorded(row: tuple[Any, ...]) -> Recorded:
    originator_id, version, at, command_id, topic, state = row
    return Recorded(originator_id, version, at, command_id, REGISTRY.decode(topic, state))


def _first(row: tuple[Any, ...]) -> bytes:
    digest: bytes = row[0]
    return digest
