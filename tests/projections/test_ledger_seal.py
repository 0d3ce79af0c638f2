"""A seal is of all events up to one: whatever is done to one of them, a later seal differs."""

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections import ledger_seal
from projections.ledger_check import check_ledger
from projections.ledger_seal import OF_NOTHING, Seal, check_seals, read_seal, seal_ledger
from tests.conftest import Database, new_database
from tests.projections.test_ledger_check import fill

EVENTS: Final = 8
STATED: Final = "15:191a6f79bbcce301123fedfa544e230d7ddee5625d2e40d962fd610550affa5b"
COLUMNS: Final = {
    "originator_id": "gen_random_uuid()",
    "originator_version": "originator_version + 64",
    "topic": "topic || 'x'",
    "at": "at + interval '1 microsecond'",
    "command_id": "gen_random_uuid()",
    "state": "state || ' '",
}


@pytest.fixture(scope="module")
def filled(server: str) -> Database:  # type: ignore[misc]
    """One ledger for all; between its events there is room for others."""
    with new_database(server) as database:
        asyncio.run(fill(database))
        with psycopg.connect(database.owner, autocommit=True) as owner:
            for sign in ("-10", "-1"):
                owner.execute(
                    f"UPDATE ledger.events SET notification_id = notification_id * {sign}"
                )
            owner.execute("CREATE TABLE ledger.good_events AS TABLE ledger.events")
        yield database


def rows_of(connection: psycopg.Connection) -> Sequence[Sequence[Any]]:
    return connection.execute(
        "SELECT notification_id, originator_id, originator_version, "
        "(extract(epoch FROM at) * 1000000)::bigint - 946684800000000, command_id, topic, state "
        "FROM ledger.events ORDER BY notification_id"
    ).fetchall()


def by_hand(rows: Sequence[Sequence[Any]]) -> Seal:
    """As the statement's comment says it, by other means."""
    last, hash_ = 0, bytes(32)
    for position, stream, version, at, command, topic, state in rows:
        parts = (
            position.to_bytes(8, "big"),
            stream.bytes,
            version.to_bytes(8, "big"),
            at.to_bytes(8, "big", signed=True),
            command.bytes,
            len(topic.encode()).to_bytes(4, "big"),
            topic.encode(),
            state,
        )
        last, hash_ = position, sha256(hash_ + sha256(b"".join(parts)).digest()).digest()
    return Seal(last, hash_)


@pytest.mark.parametrize("rows", [1, 2, 3, EVENTS, 10_000])
def test_it_is_what_its_bytes_come_to_however_they_are_read(
    filled: Database, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(ledger_seal, "SLICE", rows)
    told: list[int] = []
    with psycopg.connect(filled.app, autocommit=True) as connection:
        kept = [by_hand(rows_of(connection)[:count]) for count in range(EVENTS + 1)]
        assert seal_ledger(connection, report=told.append) == kept[-1]
        assert told[-1] == EVENTS
        assert check_seals(connection, reversed(kept)) is None


def test_it_is_of_these_bytes_for_ever(database: Database) -> None:
    """A seal that somebody keeps is compared by releases to come, on other servers."""
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute(
            "INSERT INTO ledger.events SELECT n * 5, ('00000000-0000-0000-0000-00000000000' || n)"
            "::uuid, n, 'scim_token.used.v' || n, '1999-12-31 23:59:59.5+00'::timestamptz "
            "+ n * interval '1 second 1 microsecond', md5(n::text)::uuid, "
            "convert_to('{\"é\":' || n || '}', 'UTF8') FROM generate_series(1, 3) n"
        )
        assert str(seal_ledger(owner)) == STATED


def test_an_empty_ledger_has_the_seal_of_nothing(database: Database) -> None:
    with psycopg.connect(database.app, autocommit=True) as connection:
        assert seal_ledger(connection) == OF_NOTHING == read_seal(str(OF_NOTHING))
        assert check_seals(connection, [OF_NOTHING]) is None
        damage = check_seals(connection, [Seal(1, bytes(32))])
    assert str(damage) == "event 1: it is missing, and was sealed"


@given(
    st.sets(st.integers(1, EVENTS), min_size=1),
    st.integers(0, EVENTS - 2),
    st.sampled_from([*COLUMNS, "taken away", "put between", "put beside", "swapped"]),
    st.sampled_from([1, 2, 3, 10_000]),
)
def test_whatever_is_done_to_an_event_is_found_where_it_was_done(
    filled: Database, kept: set[int], place: int, how: str, rows_of_slice: int
) -> None:
    with (
        psycopg.connect(filled.owner, autocommit=True) as owner,
        pytest.MonkeyPatch.context() as slices,
    ):
        slices.setattr(ledger_seal, "SLICE", rows_of_slice)
        owner.execute("TRUNCATE ledger.events; INSERT INTO ledger.events TABLE ledger.good_events")
        rows = rows_of(owner)
        seals = sorted(by_hand(rows[:count]) for count in kept)
        at, after = rows[place][0], rows[place + 1][0]
        owner.execute(done(how, at, after).encode())
        damage = check_seals(owner, seals)
    first = at + 1 if how == "put between" else at
    touched = [seal.position for seal in seals if seal.position >= first]
    if not touched:
        assert damage is None
    elif how == "taken away" and touched[0] == at:
        assert str(damage) == f"event {at}: it is missing, and was sealed"
    else:
        before = max((seal.position for seal in seals if seal.position < first), default=0)
        where = f"events {before + 1} to {touched[0]}"
        assert str(damage) == f"{where}: they are not those that were sealed"


def done(how: str, at: int, after: int) -> str:
    match how:
        case "taken away":
            return f"DELETE FROM ledger.events WHERE notification_id = {at}"
        case "put between":
            return (
                f"INSERT INTO ledger.events SELECT {at} + 1, gen_random_uuid(), 1, topic, at, "
                f"gen_random_uuid(), state FROM ledger.events WHERE notification_id = {at}"
            )
        case "put beside":  # the index of the positions is none of the table that inherits
            return (
                "CREATE TABLE IF NOT EXISTS ledger.more () INHERITS (ledger.events); "
                f"INSERT INTO ledger.more SELECT {at}, gen_random_uuid(), 1, topic, at, "
                f"gen_random_uuid(), state FROM ledger.events WHERE notification_id = {at}"
            )
        case "swapped":
            return "; ".join(
                f"UPDATE ledger.events SET notification_id = {new} WHERE notification_id = {old}"
                for old, new in ((at, -1), (after, at), (-1, after))
            )
        case column:
            return (
                f"UPDATE ledger.events SET {column} = {COLUMNS[column]} "
                f"WHERE notification_id = {at}"
            )


def rewrite(owner: psycopg.Connection, which: str) -> None:
    """Another name of tokens, wherever it stands."""
    for table in ("events", "aggregates"):
        text = "replace(convert_from(state, 'UTF8'), 'Okta', 'Acme')"
        done = f"UPDATE ledger.{table} SET state = convert_to({text}, 'UTF8') WHERE {which}"
        owner.execute(done.encode())


def test_a_history_that_is_rewritten_as_a_whole_is_found_by_its_seal_alone(
    database: Database,
) -> None:
    asyncio.run(fill(database))
    with psycopg.connect(database.owner, autocommit=True) as owner:
        seal = seal_ledger(owner)
        rewrite(owner, "true")
        assert check_ledger(owner).damage is None
        assert check_seals(owner, [seal]) is not None


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "1:", f"1:{'a' * 63}", f"1:{'a' * 65}", f"1:{'A' * 64}", f"1:{'a' * 63}g"),
        *(f" 1:{'a' * 64}", f"1:{'a' * 64}\n", f"-1:{'a' * 64}", f"0:{'a' * 64}"),
        *(f"{'9' * 19}:{'a' * 64}", f"\u0661:{'a' * 64}", f"0x1:{'a' * 64}"),
    ],
)
def test_what_is_no_seal(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        read_seal(text)


@given(st.integers(1, 10**18 - 1), st.binary(min_size=32, max_size=32))
def test_a_seal_is_read_as_it_is_told(position: int, hash_: bytes) -> None:
    assert read_seal(str(Seal(position, hash_))) == Seal(position, hash_)
