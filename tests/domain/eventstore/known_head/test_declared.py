"""A restore of an older state keeps everybody out until its loss is declared."""

import asyncio
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from domain.commands import NewScimToken
from domain.errors import EventsLost, HeadFileUnusable, InvalidValue
from domain.eventstore.known_head.head_file import HeadFile
from domain.eventstore.known_head.keeper import keep
from domain.eventstore.known_head.lost import BEYOND_MAX
from domain.losses.declared import KnownEvent, Loss
from tests.conftest import Database
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.known_head.restored import (
    ADA,
    append,
    closed,
    copied,
    declared,
    found,
    known_by,
    letting_in,
    newest,
)
from tests.turns import by_turns


def let_in(database: Database, path: Path) -> None:
    """One command of a process on the host with this head file; raises what it is refused with."""

    async def main() -> None:
        async with letting_in(database, path) as ledger:
            await ledger.create_scim_token(NewScimToken(uuid4(), "one more"), by=ADA)

    asyncio.run(main())


def test_an_older_state_lets_nobody_in_until_its_loss_is_declared(
    server: str, database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "head.json"
    append(database, 2)
    with copied(server, database) as older:
        append(database, 3)
        known = known_by(path, database)
        let_in(database, path)
        with pytest.raises(
            EventsLost, match=r"ends with event 2 of .* has known event 5: .* older"
        ):
            let_in(older, path)
        with psycopg.connect(older.app, autocommit=True) as connection, pytest.raises(EventsLost):
            keep(connection, HeadFile(path))
        assert HeadFile(path).read() == known, "it does not go back by itself"

        loss = found(older, known)
        assert loss == Loss(after=2, until=5, known=known)
        for seen in range(1, 9):  # by a collector, which may have stopped before it or after it
            assert found(older, known, seen) == Loss(after=2, until=max(5, seen), known=known)
        closed(older, loss)
        declared(older, loss)
        assert newest(older) == 6, "no event gets a position that somebody has seen another one at"
        assert found(older, known) is None, "nothing is lost that was not declared"
        let_in(older, path)
        assert known_by(path, older).position == 7
        assert_consistent(older)


def test_a_ledger_that_has_grown_again_has_another_event_there(
    server: str, database: Database, tmp_path: Path
) -> None:
    """A host without a head file has let people in meanwhile."""
    path = tmp_path / "head.json"
    append(database, 2)
    with copied(server, database) as older:
        append(database)
        known = known_by(path, database)
        append(older, 3)
        with pytest.raises(EventsLost, match="event 3 of the ledger is not the one that"):
            let_in(older, path)
        loss = found(older, known)
        assert loss == Loss(after=None, until=3, known=known), "nobody knows where it begins"
        closed(older, loss)
        declared(older, loss)
        let_in(older, path)
        assert newest(older) == 7


@pytest.mark.parametrize("steps", by_turns(range(4), one_of=4))
def test_a_declaration_that_is_cut_short_loses_no_notice_and_raises_no_false_one(
    server: str, database: Database, tmp_path: Path, steps: int
) -> None:
    """It closes the positions, appends the event, moves the file; and dies after any of them."""
    path = tmp_path / "head.json"
    append(database, 2)
    with copied(server, database) as older:
        append(database, 3)
        known = known_by(path, database)
        loss = found(older, known)
        assert loss is not None
        for step in (
            lambda: closed(older, loss),
            lambda: declared(older, loss),
            lambda: known_by(path, older),
        )[:steps]:
            step()
        if steps < 2:
            with pytest.raises(EventsLost):
                let_in(older, path)
            assert found(older, known) == loss, "it is told again, and as before"
        else:
            let_in(older, path)
        assert known_by(path, older if steps > 1 else database).position >= known.position


def test_of_two_hosts_each_knows_what_it_has_seen(
    server: str, database: Database, tmp_path: Path
) -> None:
    append(database)
    away = known_by(tmp_path / "away", database)
    append(database)
    with copied(server, database) as older:
        append(database, 2)
        known = known_by(tmp_path / "one", database)
        append(database, 2)
        further = known_by(tmp_path / "ahead", database)
        assert found(older, away) is None, "it has seen nothing that is lost"
        loss = found(older, known)
        assert loss == Loss(after=2, until=4, known=known)
        closed(older, loss)
        declared(older, loss)
        assert found(older, known) is None
        assert found(older, further) == Loss(after=5, until=6, known=further), (
            "who has seen more than was declared says so"
        )


def test_a_host_that_saw_less_than_was_declared_goes_on_without_a_declaration_of_its_own(
    server: str, database: Database, tmp_path: Path
) -> None:
    behind = tmp_path / "behind"
    append(database, 2)
    with copied(server, database) as older:
        append(database, 2)
        known_by(behind, database)
        append(database, 2)
        known = known_by(tmp_path / "head.json", database)
        loss = found(older, known)
        assert loss == Loss(after=2, until=6, known=known)
        closed(older, loss)
        with pytest.raises(EventsLost):
            let_in(older, behind)
        declared(older, loss)
        let_in(older, behind)
        with copied(server, older) as second:  # and what comes then is known by its own place
            append(older)
            known_by(behind, older)
            with pytest.raises(EventsLost):
                let_in(second, behind)


def test_a_collector_has_seen_more_than_any_host(database: Database, tmp_path: Path) -> None:
    append(database, 2)
    assert found(database, None) is None
    assert found(database, known_by(tmp_path / "head.json", database), 2) is None
    assert found(database, None, 9) == Loss(after=2, until=9, known=None)
    for impossible in (0, -1, 3 + BEYOND_MAX):
        with pytest.raises(InvalidValue, match="a collector has stored"):
            found(database, None, impossible)
    loss = Loss(after=2, until=9, known=None)
    closed(database, loss)
    declared(database, loss)
    assert newest(database) == 10
    assert found(database, None, 9) is None


@pytest.mark.parametrize("position", [2 + 10**12 + 1, 10**15, 2**63 - 1])
def test_a_damaged_head_file_does_not_use_up_the_positions(
    database: Database, position: int
) -> None:
    append(database, 2)
    loss = found(database, KnownEvent(position, uuid4(), 1, uuid4()))
    assert loss is not None
    for _ in range(2):  # nor a little more each time
        with pytest.raises(psycopg.errors.NumericValueOutOfRange, match="of this ledger"):
            closed(database, loss)
    append(database)
    assert newest(database) == 3
    closed(database, Loss(after=3, until=3 + 10**12, known=None))
    append(database)
    assert newest(database) == 3 + 10**12 + 1


def test_what_was_rolled_back_leaves_a_gap_and_is_no_loss(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "head.json"
    append(database, 2)
    with psycopg.connect(database.owner) as connection:
        connection.execute("SELECT nextval('ledger.events_notification_id_seq')")
        connection.rollback()
    known_by(path, database)
    append(database)
    let_in(database, path)
    assert known_by(path, database).position == 5


def test_an_event_that_a_host_knows_is_missed_whoever_has_removed_it(
    database: Database, tmp_path: Path
) -> None:
    """The rule for retention: what it removes it must declare, as an operator declares a loss."""
    path = tmp_path / "head.json"
    append(database, 3)
    known = known_by(path, database)
    append(database, 2)
    with psycopg.connect(database.owner) as owner:
        owner.execute("DELETE FROM ledger.events WHERE notification_id = %s", [known.position])
    with pytest.raises(EventsLost, match="event 3 of the ledger is not the one that"):
        let_in(database, path)
    loss = found(database, known)
    assert loss == Loss(after=None, until=3, known=known)
    declared(database, loss)
    let_in(database, path)


def test_a_ledger_made_anew_is_none_that_this_host_has_known(
    server: str, database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "head.json"
    with copied(server, database) as empty:
        append(database, 2)
        known = known_by(path, database)
        with pytest.raises(EventsLost, match="the ledger is empty, and this host has known"):
            let_in(empty, path)
        assert found(empty, known) == Loss(after=0, until=2, known=known)


def test_a_loss_is_declared_with_a_reason_that_can_be_read(database: Database) -> None:
    async def main(reason: str) -> None:
        async with letting_in(database, Path("/nowhere/head.json")) as ledger:
            await ledger.declare_loss(Loss(1, 2, None), by=ADA, reason=reason)

    for reason in ("", "x" * 201, "two\nlines"):
        with pytest.raises(InvalidValue, match="/reason"):
            asyncio.run(main(reason))


def test_a_file_that_is_none_keeps_everybody_out(database: Database, tmp_path: Path) -> None:
    """Nobody can say whether the ledger is whole."""
    path = tmp_path / "head.json"
    path.write_text("{}")
    with pytest.raises(HeadFileUnusable, match="is not one"):
        let_in(database, path)
    path.unlink()
    path.mkdir()
    with pytest.raises(HeadFileUnusable, match="cannot be read"):
        let_in(database, path)
    path.rmdir()
    let_in(database, path)
