"""The planted bug: a worker of the real service whose lane of uses answers before the COMMIT."""

import asyncio
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg

from api import app
from api.edge import Edge
from api.server.listening import bind
from api.server.worker_process import worker_argv
from api.settings import load
from domain.errors import StoreUnavailable
from domain.eventstore.append import RECORD_USES
from domain.eventstore.batcher import Job
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.ledger_clock import LedgerClock
from domain.eventstore.uses import UseLane, _Batch
from domain.postgres.prepared_statement import PreparedStatement
from domain.postgres.primary import Primary
from tests.conftest import CLOCK_AND_IDS, Database
from tests.presenting import UNLIMITED
from tests.service import service_environment, until

ROOT: Final = Path(__file__).parents[2]


class AnswersBeforeCommit(UseLane):
    """Who is good is found out inside the transaction, and told before it ends."""

    async def _run(self, jobs: Sequence[Job[Any, Any]]) -> None:
        batch = _Batch(jobs, is_all=True)
        try:
            connection = await self._kept.get()
            if self._record is None or not self._record.is_on(connection):
                self._record = PreparedStatement(connection, "record_uses", RECORD_USES)
            await connection.execute("BEGIN")
            batch.answer(
                await self._record(batch.parameters(REGISTRY, self._clock(), self._new_id))
            )
            await asyncio.sleep(0)
            await connection.execute("COMMIT")
        except psycopg.Error as error:
            await self._kept.drop()
            raise StoreUnavailable("the database did not confirm the use") from error


def create_app() -> Edge:
    """The service as it is, but for its lane of uses."""
    settings = load()
    edge, conninfo = app.build(settings), settings.database_url
    assert conninfo is not None
    edge._service.ledger.gate.uses = AnswersBeforeCommit(
        Primary(conninfo),
        REGISTRY,
        clock=LedgerClock(CLOCK_AND_IDS.clock),
        new_id=CLOCK_AND_IDS.new_id,
        on_append=lambda: None,
    )
    return edge


@contextmanager
def running_worker_with_the_bug(database: Database) -> Iterator[str]:
    """One worker process without its supervisor; its address."""
    lifeline, held = os.pipe()
    with bind("127.0.0.1", 0) as listener:
        listener.listen()
        host, port = listener.getsockname()
        argv = worker_argv(
            f"{__name__}:create_app",
            listen_fds=[listener.fileno()],
            lifeline_fd=lifeline,
            worker_number=1,
        )
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env=service_environment(database.app, **UNLIMITED),
            pass_fds=(listener.fileno(), lifeline),
            stderr=subprocess.DEVNULL,
        )
        url = f"http://{host}:{port}"
        try:
            until(lambda: process.poll() is not None or _is_up(url), timeout_s=30, what="listening")
            yield url
        finally:
            os.close(held)  # it leaves when its lifeline ends
            os.close(lifeline)
            process.wait(30)


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=1, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
