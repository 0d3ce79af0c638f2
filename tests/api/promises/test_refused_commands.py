"""A13: a command that was refused for want of time takes no effect afterwards."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from litestar.types import Message

from api.http.deadline import answer_in_time
from domain.eventstore import append
from domain.postgres.read_pool import ReadPool
from tests.api.expected import WARNINGS, assert_problem, create, topics
from tests.conftest import Database
from tests.service import Caller, RunningService, until
from tests.stopwatch import Stopwatch
from tests.turns import by_turns

UNAVAILABLE: Final = "The ledger cannot answer right now; nothing was lost. Try again."


@contextmanager
def held(database: Database, statement: str) -> Iterator[Callable[[], None]]:
    """Another session holds a lock until it is told to let go."""
    with psycopg.connect(database.owner, autocommit=True) as session:
        session.execute("BEGIN")
        session.execute(statement.encode())
        yield session.rollback


def waits_for(service: RunningService, kind: str) -> bool:
    """Whether somebody waits for a lock that another holds."""
    waiting = (
        "SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database "
        "WHERE d.datname = current_database() AND NOT granted AND locktype = %s"
    )
    return bool(service.query(waiting, kind))


CALLS: Final[dict[str, Callable[[httpx.Client, Caller, dict[str, Any]], httpx.Response]]] = {
    "create": lambda client, caller, token: client.post(
        "/scim-token", auth=caller, json={"team_id": token["team_id"], "name": "late"}
    ),
    "rotate": lambda client, caller, token: client.post(
        f"/scim-token/{token['id']}/rotate", auth=caller, json={}
    ),
    "revoke": lambda client, caller, token: client.delete(
        f"/scim-token/{token['id']}", auth=caller
    ),
}


@pytest.mark.parametrize("name", by_turns(CALLS, one_of=3))
def test_a_refused_command_takes_no_effect_later(
    service: RunningService, admin: Caller, team: UUID, name: str
) -> None:
    token = create(service, admin, team=team)
    before = recorded(service)
    with (
        ThreadPoolExecutor(1) as pool,
        held(service.database, append.LOCK) as let_append,
        held(service.database, "LOCK TABLE ledger.secrets IN ACCESS EXCLUSIVE MODE") as let_read,
    ):
        answer: Future[httpx.Response] = pool.submit(CALLS[name], service.client, admin, token)
        until(lambda: waits_for(service, "relation"), what="the caller's lookup")
        watch = Stopwatch()
        while watch.read_s() < 0.6:
            # the lookup takes its time, so that of the command ends after the request's
            assert not answer.done()
        let_read()
        assert_problem(answer.result(), 503, "unavailable", UNAVAILABLE)
        let_append()
    # goes through the same queue, behind whatever was left in it
    create(service, admin, team=uuid4())
    assert recorded(service) == before + 1
    assert topics(service, token["id"]) == ["scim_token.created.v1"]


def recorded(service: RunningService) -> int:
    """How many events there are of tokens, but for what is told by the clock."""
    return int(
        service.query(
            "SELECT count(*) FROM ledger.events WHERE topic LIKE %s AND topic <> ALL(%s)",
            "scim_token.%",
            list(WARNINGS),
        )[0][0]
    )


def test_a_refused_query_gives_its_place_back_at_once(
    database: Database, run: Callable[..., Any]
) -> None:
    """What is cancelled does not wait for a server that may not answer, and holds nobody up."""

    async def query(*_: object) -> None:
        async with pool.connection() as connection:
            row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
            assert row is not None
            os.kill(row[0], signal.SIGSTOP)
            stopped.append(row[0])
            await connection.execute("SELECT 1")

    async def refuse(*_: object) -> None:
        pass

    async def never() -> Any:
        raise AssertionError

    async def ignore(_: Message) -> None:
        raise AssertionError

    async def story() -> None:
        scope: Any = {"state": {}}
        await answer_in_time(query, refuse, scope, never, ignore, within_s=0.3)
        watch = Stopwatch()
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")
        assert watch.read_s() < 1
        await pool.close()

    stopped: list[int] = []
    pool = ReadPool(database.app, size=1)
    try:
        run(story())
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
