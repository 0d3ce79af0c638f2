"""The service in this process, whose time moves when a test says so: its API, console, command line
and views.
"""

import io
import json
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from unittest.mock import patch
from uuid import uuid4

import httpx
import uvloop
from litestar.testing import TestClient
from structlog.testing import capture_logs

from api import deployment
from api.app import build
from api.cli.commands import app as command_line
from api.cli.scim_tokens import revocation
from api.edge import Edge
from api.settings import Settings
from domain.commands import NewApiToken
from domain.ledger import TokenLedger
from domain.secret import Pepper
from projections.figures import queries as figures
from tests.conftest import Database
from tests.console.browsing import SAME_ORIGIN
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import T0
from tests.projections.follow.test_runner import running
from tests.service import PEPPER_KEY, service_environment

T = TypeVar("T")
INSTANT: Final = timedelta(milliseconds=1)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)


class _Printed(io.StringIO):
    """What this thread prints; what another one logs meanwhile is no part of it."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        """The library's."""
        return super().write(text) if threading.get_ident() == self._thread else len(text)


class World:
    """admin: the header of an API token that may do everything."""

    def __init__(self, database: Database, clock: HandClock, client: "TestClient[Edge]") -> None:
        self.database = database
        self.clock = clock
        self.client = client
        secret = self.ask(
            lambda ledger: ledger.create_api_token(NewApiToken(uuid4(), None, None, None))
        )
        self.admin = {"Authorization": f"Bearer {secret[1].reveal()}"}
        self._signed_in_at: datetime | None = None

    def ask(self, ask: Callable[[TokenLedger], Awaitable[T]]) -> T:
        """Something of the ledger, beside the service."""

        async def run() -> T:
            async with TokenLedger(
                self.database.app,
                pepper=Pepper([PEPPER_KEY.encode()]),
                clock_and_ids=self.clock.clock_and_ids,
            ) as ledger:
                return await ask(ledger)

        return uvloop.run(run())

    def api(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """A call of the administrator's, an instant after what was before."""
        self.clock.advance(INSTANT)
        return self.client.request(method, path, headers=self.admin, **sent)

    def listed(self, path: str = "/scim-token", **query: str) -> list[Any]:
        """All pages of a list."""
        found, cursor = list[Any](), ""
        while True:
            asked: dict[str, str | int] = {"limit": 1000, "next_cursor": cursor, **query}
            page = self.client.get(path, headers=self.admin, params=asked).json()
            found += page["result"]
            cursor = page["next_cursor"]
            if not cursor:
                return found

    def page(self, path: str, **query: str) -> httpx.Response:
        """A page of the console, to somebody who is signed in with that API token."""
        if self._signed_in_at is None or self.clock.now - self._signed_in_at > 7 * HOUR:
            secret = self.admin["Authorization"].removeprefix("Bearer ")
            given = {"token": secret}
            self.client.post(
                "/console/sign-in", data=given, headers=SAME_ORIGIN, follow_redirects=False
            )
            self._signed_in_at = self.clock.now
        page = self.client.get(path, params=query or None, follow_redirects=False)
        assert page.status_code in {200, 404}, page.text
        return page

    def command(self, *arguments: str) -> Any:
        """What a command prints with --json."""
        printed = _Printed()
        with redirect_stdout(printed), capture_logs():  # a process of its own logs elsewhere
            command_line(
                [*arguments, "--json"],
                result_action="return_value",
                exit_on_error=False,
                print_error=False,
            )
        return json.loads(printed.getvalue())


@contextmanager
def world(database: Database) -> Iterator[World]:
    """One that begins at T0."""
    clock = HandClock(T0)
    believing_any_clock(database)
    settings = Settings(
        database_url=database.app, pepper=PEPPER_KEY, rate_per_token=0, rate_per_source=0
    )
    with (
        patch.object(deployment, "CLOCK_AND_IDS", clock.clock_and_ids),
        patch.object(revocation, "now", clock),
        patch.object(figures, "KEPT_S", -1.0),
        patch.dict(os.environ, service_environment(database.app), clear=True),
        running(database),
        TestClient(
            build(settings, clock_and_ids=clock.clock_and_ids), base_url="http://127.0.0.1"
        ) as client,
    ):
        yield World(database, clock, client)
