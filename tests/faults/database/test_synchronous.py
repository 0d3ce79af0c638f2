"""B5: where a synchronous standby is demanded, nothing is confirmed that it does not have."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any, Final
from uuid import uuid4

import pytest
import uvloop
from eventsourcing.persistence import OperationalError
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from api.cli.backup import _run
from domain.authority import Operator
from domain.commands import CommandKey, NewScimToken
from domain.errors import SecretAlreadyShown, StoreUnavailable
from domain.event import Recorded
from domain.eventstore import append
from domain.eventstore.ledger_clock import LedgerClock
from domain.eventstore.library import factory
from domain.eventstore.uses import Decision
from domain.ledger import TokenLedger
from domain.postgres import kept_connection
from domain.postgres.connection import configure, open_connection
from domain.postgres.kept_connection import KeptConnection
from domain.postgres.migrate import migrate
from domain.postgres.session import FOLLOWING
from domain.postgres.trouble.late_commit import LATE_COMMIT
from domain.scim_token.events import Presentation, Revoked
from domain.secret import Secret
from tests.conftest import APP_ROLE, Run, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.faults.standby import Cluster, Server, cluster
from tests.postgres_programs import directory
from tests.service import until
from tests.turns import by_turns

TEAM, ADA, IDP = uuid4(), Operator(uuid4()), Presentation(door="scim")
TIMES: Final = 6
WAITING: Final = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
RELEASE: Final = "SELECT {}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture(scope="module")
def pair() -> Iterator[Cluster]:
    with cluster() as made:
        made.primary.configure("synchronous_standby_names", "*")
        yield made


@pytest.fixture
def alone(pair: Cluster) -> Iterator[Server]:
    """The primary, whose standby is away; in the end it is back, and all agrees."""
    pair.standby.embedded.stop()
    try:
        yield pair.primary
    finally:
        pair.start_standby()
    assert_consistent(pair.primary.database)


@contextmanager
def releasing(server: Server, how: str, *, after_s: float = 0.0) -> Iterator[list[int]]:
    """Whoever waits for the standby does not any more; how many did, in the end."""
    stopping, released = threading.Event(), [0]

    def release() -> None:
        stopping.wait(after_s)
        while not stopping.wait(0.02):
            released[0] += len(server.ask(RELEASE.format(how)))

    thread = threading.Thread(target=release)
    thread.start()
    try:
        yield released
    finally:
        stopping.set()
        thread.join()


async def token(ledger: TokenLedger) -> tuple[Any, Secret]:
    return await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA)


def test_with_the_standby_all_is_served(pair: Cluster, run: Run) -> None:
    async def main() -> None:
        async with open_ledger(pair.primary.database.app) as ledger:
            _, secret = await token(ledger)
            assert isinstance(await ledger.authenticate(secret, IDP), Decision)

    run(main())


@pytest.fixture
def known(pair: Cluster) -> tuple[Any, Secret]:
    """A token that the standby has."""

    async def main() -> tuple[Any, Secret]:
        async with open_ledger(pair.primary.database.app) as ledger:
            return await token(ledger)

    return uvloop.run(main())


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_use_whose_wait_is_ended_is_not_let_in(
    known: tuple[Any, Secret], alone: Server, run: Run, how: str
) -> None:
    async def main() -> None:
        async with open_ledger(alone.database.app) as ledger:
            with releasing(alone, how) as released:
                for _ in range(TIMES):
                    with pytest.raises(StoreUnavailable):
                        await ledger.authenticate(known[1], IDP)
            assert released[0] >= TIMES

    run(main())


@pytest.mark.parametrize(
    ("how", "after_s"),
    by_turns(product(["pg_cancel_backend", "pg_terminate_backend"], [0.0, 0.4, 1.0]), one_of=4),
)
def test_a_command_whose_wait_is_ended_is_not_confirmed_and_neither_is_its_repeat(
    known: tuple[Any, Secret], alone: Server, run: Run, how: str, after_s: float
) -> None:
    """After a second it is the gate's own second try that finds it done,
    on no other server than this one.
    """

    async def main() -> None:
        async with open_ledger(alone.database.app) as ledger:
            key = CommandKey(uuid4(), b"request")
            with releasing(alone, how, after_s=after_s) as released:
                for _ in range(2):
                    with pytest.raises(StoreUnavailable):
                        await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA, key=key)
                    with pytest.raises(StoreUnavailable):
                        await ledger.revoke_scim_token(known[0].id, by=ADA)
            assert released[0] > 0

    run(main())


def test_a_repeat_is_confirmed_once_the_standby_is_back(pair: Cluster, run: Run) -> None:
    async def main() -> None:
        async with open_ledger(pair.primary.database.app) as ledger:
            key = CommandKey(uuid4(), b"request")
            pair.standby.embedded.stop()
            with releasing(pair.primary, "pg_cancel_backend"), pytest.raises(StoreUnavailable):
                await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA, key=key)
            pair.start_standby()
            with pytest.raises(SecretAlreadyShown):
                await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA, key=key)

    run(main())


@pytest.mark.long
def test_an_append_through_the_library_is_not_confirmed_either(
    known: tuple[Any, Secret], alone: Server, run: Run
) -> None:
    async def main() -> None:
        async with open_ledger(alone.database.app) as ledger:
            at = LedgerClock(ledger.clock_and_ids.clock)()
            revoked = Recorded(known[0].id, 2, at, uuid4(), Revoked(revoked_by=None, reason=None))
            with (
                releasing(alone, "pg_cancel_backend") as released,
                pytest.raises(OperationalError, match="may not be on the standby"),
            ):
                await asyncio.to_thread(ledger.save, revoked)
            assert released[0] >= 1

    run(main())


def test_in_a_session_that_states_otherwise_nothing_is_confirmed_either(
    known: tuple[Any, Secret], alone: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler that is set to another mode gives an append the session of the projections."""
    monkeypatch.setattr(kept_connection, "SERVING", FOLLOWING)
    monkeypatch.setattr(factory, "configure", partial(configure, session=FOLLOWING))

    async def main() -> None:
        async with open_ledger(alone.database.app) as ledger:
            with releasing(alone, "pg_cancel_backend") as released:
                with pytest.raises(StoreUnavailable):
                    await ledger.authenticate(known[1], IDP)
                with pytest.raises(StoreUnavailable):
                    await ledger.suspend_scim_token(known[0].id, by=ADA)
                version = ledger.replay(known[0].id).version + 1
                at = LedgerClock(ledger.clock_and_ids.clock)()
                revoked = Recorded(
                    known[0].id, version, at, uuid4(), Revoked(revoked_by=None, reason=None)
                )
                with pytest.raises(OperationalError):
                    await asyncio.to_thread(ledger.save, revoked)
            assert released[0] >= 3

    run(main())


@pytest.mark.long
def test_a_server_whose_warnings_are_not_heeded_would_let_in(
    known: tuple[Any, Secret], alone: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: what the server says in a commit is not listened to."""
    monkeypatch.setattr(KeptConnection, "_noticed", lambda *_: None)

    async def main() -> None:
        async with open_ledger(alone.database.app) as ledger:
            with releasing(alone, "pg_cancel_backend"):
                assert isinstance(await ledger.authenticate(known[1], IDP), Decision)

    run(main())


def by_migration(server: Server) -> None:
    assert migrate(server.database.owner, app_role=APP_ROLE) == []


def by_itself(server: Server) -> None:
    """As a rebuild's steps, a view that is dropped, a key that is written down."""
    with open_connection(server.database.owner) as connection:
        connection.execute("COMMENT ON SCHEMA views IS 'known'")


def by_a_program(server: Server) -> None:
    """As pg_restore's."""
    said = "COMMENT ON SCHEMA ledger IS 'restored'"
    # As a server has it that is nobody's test.
    owner = make_conninfo(server.database.owner, options="-c synchronous_commit=on")
    _run(directory() / "psql", owner, f"--command={said}", remedy="")


@pytest.mark.long
@pytest.mark.parametrize("commits", [by_migration, by_itself, by_a_program])
def test_who_may_wait_for_ever_says_what_for(
    alone: Server, commits: Callable[[Server], None]
) -> None:
    """In silence, it would look as if it hung."""
    with (
        capture_logs() as logged,
        ThreadPoolExecutor() as threads,
        releasing(alone, "pg_cancel_backend", after_s=8),
    ):
        working = threads.submit(commits, alone)
        until(lambda: working.done() or logged != [], what="a word")
        assert not working.done()
        assert [each["event"] for each in logged] == [LATE_COMMIT]
        working.result(timeout=60)


@pytest.mark.long
def test_who_waits_for_something_else_says_nothing_of_a_standby(pair: Cluster) -> None:
    with capture_logs() as logged, open_connection(pair.primary.database.owner) as connection:
        connection.execute("SELECT pg_sleep(4)")
    assert logged == []


@pytest.mark.long
def test_a_repeat_that_writes_nothing_would_be_confirmed(
    alone: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: a commit that has nothing to write waits for nobody."""
    monkeypatch.setattr(append, "TOUCH_COMMANDS", "SELECT %s::uuid[]")

    async def main() -> None:
        async with open_ledger(alone.database.app) as ledger:
            key = CommandKey(uuid4(), b"request")
            with releasing(alone, "pg_cancel_backend"), pytest.raises(StoreUnavailable):
                await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA, key=key)
            until(lambda: alone.ask(WAITING) == [(0,)], what="nobody waits")
            with pytest.raises(SecretAlreadyShown):
                await ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA, key=key)

    run(main())
