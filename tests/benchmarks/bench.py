"""One run: its directory, its PostgreSQL, what was seeded in it,
and how long a measurement takes.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from domain.api_token.permissions import Permission
from domain.commands import NewApiToken
from domain.ledger import TokenLedger
from domain.secret import Pepper, Secret
from tests.benchmarks import seed, servers, wrk
from tests.benchmarks.compare import Load
from tests.benchmarks.seed import CLOCK_AND_IDS, Seeded
from tests.benchmarks.servers import Server, Service
from tests.benchmarks.store import SERVED_DATABASE, Database, Pgbench, Store
from tests.benchmarks.wrk import Slice

PEPPER: Final = Pepper([servers.PEPPER_KEY.encode()])
SMALL: Final = 10_000
LARGE_USES_EACH: Final = 9
MILLION_TOKENS: Final = 100_000
MILLION: Final = 1_000_000
"""Events of the ledger that the views are read from and rebuilt from."""
_CHECKED: Final = 20


@dataclass(frozen=True)
class Ledger:
    """A seeded database. api_token: the secret of one that may do everything, for every team."""

    database: Database
    seeded: Seeded
    api_token: Secret

    @property
    def tokens(self) -> list[str]:
        """The known secrets, to be presented."""
        return [secret.reveal() for secret in self.seeded.secrets]


@dataclass(frozen=True)
class Bench:
    """What every section works with.

    seconds, rounds: of each slice, and how many slices. tokens: how many the big ledger holds.
    is_large: give each of them nine uses, which makes ten million events of a million tokens.
    """

    work: Path
    store: Store
    seconds: int
    rounds: int
    tokens: int
    is_large: bool

    @cached_property
    def pgbench(self) -> Pgbench:
        """The floor of the database."""
        return Pgbench(self.store.create_empty("pgbench"), self.work)

    @cached_property
    def small(self) -> Ledger:
        """A ledger of 10,000 tokens, all of whose secrets are known."""
        return self.new_ledger("small", tokens=SMALL)

    @cached_property
    def big(self) -> Ledger:
        """The big ledger, 10,000 of whose secrets are known;
        the one that `serve --data-dir` serves.
        """
        uses_each = LARGE_USES_EACH if self.is_large else 0
        return self.new_ledger(SERVED_DATABASE, tokens=self.tokens, uses_each=uses_each)

    @cached_property
    def million(self) -> Ledger:
        """A million events of 100,000 tokens: nine tenths of them uses."""
        uses_each = MILLION // MILLION_TOKENS - 1
        return self.new_ledger("million", tokens=MILLION_TOKENS, uses_each=uses_each)

    def new_ledger(self, name: str, *, tokens: int, uses_each: int = 0) -> Ledger:
        """A seeded database of its own, a sample of it checked."""
        database = self.store.create(name)
        seeded = seed.seed(database.owner, pepper=PEPPER, tokens=tokens, uses_each=uses_each)
        seed.check(
            database.app, pepper=PEPPER, token_ids=seeded.token_ids[:: -(-tokens // _CHECKED)]
        )
        return Ledger(database, seeded, asyncio.run(_api_token(database)))

    def floor(
        self, factory: str, environment: Mapping[str, str] = {}
    ) -> AbstractContextManager[Server]:
        """A worker that runs a floor, given as module:function."""
        return servers.floor(factory, log=self.work / "floors.log", environment=environment)

    def service(self, ledger: Ledger, *, workers: int = 1) -> AbstractContextManager[Service]:
        """The whole service on a ledger."""
        log = self.work / "service.log"
        return servers.service(log=log, database_url=ledger.database.app, workers=workers)

    def requests(self, method: str, paths: Iterable[str], tokens: Sequence[str]) -> Path:
        """A file of requests for the load generator: each path with each token."""
        return self.file(
            "".join(f"{method} {path} {token}\n" for path in paths for token in tokens)
        )

    def file(self, text: str) -> Path:
        """A new file of the run."""
        file = self.work / uuid4().hex
        file.write_text(text)
        return file

    def load(
        self,
        server: Server,
        requests: Path,
        *,
        connections: int = 32,
        body: Path | None = None,
        through: str | None = None,
    ) -> Load:
        """Slices of requests to a server, or to the URL of a gateway before it."""

        def run() -> Slice:
            try:
                return send()
            finally:
                server.settle()

        send = partial(
            wrk.load,
            through or server.url,
            requests,
            connections=connections,
            seconds=self.seconds,
            body=body,
        )
        return run

    def commits(self, *, clients: int) -> Load:
        """Slices of pgbench: its commits count as answers."""

        def run() -> Slice:
            rate = self.pgbench.rate(clients=clients, seconds=self.seconds)
            return Slice(rate, p50_ms=0, p99_ms=0, answers=0, refused=0, lost=0)

        return run


def team_pages(team_ids: Sequence[UUID]) -> list[str]:
    """The first page of 100 of each team."""
    return [f"/scim-token?team_id={team_id}&limit=100" for team_id in team_ids]


async def _api_token(database: Database) -> Secret:
    async with TokenLedger(database.app, pepper=PEPPER, clock_and_ids=CLOCK_AND_IDS) as ledger:
        ask = NewApiToken(uuid4(), teams=None, permissions=tuple(Permission), lifetime=None)
        _, secret = await ledger.create_api_token(ask)
        return secret
