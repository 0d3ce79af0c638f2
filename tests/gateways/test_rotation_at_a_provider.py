"""A rotation refuses no call of an identity provider, whichever way it ends.

Each provider calls 50 times a second. Time is compressed: a call takes the clock 24 s ahead, so
that 100 calls are one cycle of Entra.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import uuid4

import pytest
from litestar.testing import TestClient

from api.app import build
from api.edge import Edge
from api.settings import Settings
from domain.api_token.permissions import Permission
from domain.commands import NewApiToken
from domain.ledger import TokenLedger
from domain.scim_token.rotation import DEFAULT_RULE, FinishRule
from domain.secret import Pepper
from projections.registry import PROJECTIONS
from projections.runner import Runner
from projections.warnings.thread import Telling
from tests.conftest import Database
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import T0
from tests.service import PEPPER_KEY

CALLS_PER_S: Final = 50
PER_CALL: Final = timedelta(seconds=24)
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
CYCLE: Final = 40 * MINUTE
OVERLAP: Final = 6 * HOUR
NEVER_SILENT: Final = FinishRule(silent_for=timedelta(days=365))
AT_ONCE: Final = FinishRule(used_apart=timedelta(0), silent_for=timedelta(days=-1))
"""Planted: one use of the newer secret is enough, however the older one is used."""
Client: TypeAlias = "TestClient[Edge]"


class Okta:
    """Calls steadily; a secret that it is told is the one of its next call."""

    def __init__(self, client: Client, clock: HandClock, secret: str) -> None:
        self.client = client
        self._clock = clock
        self._next_s = time.monotonic()
        self.secret = secret
        self.calls = 0
        self.refused: list[tuple[datetime, int]] = []

    def work(self, span: timedelta) -> None:
        """Call at its pace for so long, by the clock."""
        for _ in range(span // PER_CALL):
            self.call(self.secret)

    def call(self, secret: str) -> None:
        """One call, no sooner than its turn is."""
        time.sleep(max(0.0, self._next_s - time.monotonic()))
        self._next_s = max(self._next_s, time.monotonic() - 1) + 1 / CALLS_PER_S
        self._clock.advance(PER_CALL)
        status = presented(self.client, secret)
        self.calls += 1
        if status != 200:
            self.refused.append((self._clock.now, status))

    def is_told(self, secret: str) -> None:
        """Its administrator pastes a secret."""
        self.secret = secret


class Entra(Okta):
    """Works in cycles, each with the secret that was saved when it began."""

    def __init__(self, client: Client, clock: HandClock, secret: str) -> None:
        super().__init__(client, clock, secret)
        self._saved = secret

    def work(self, span: timedelta) -> None:
        """Cycles, one after the other."""
        for _ in range(-(-span // CYCLE)):
            super().work(CYCLE)
            self.secret = self._saved

    def is_told(self, secret: str) -> None:
        """*Test connection*, and only two cycles later *Save*, in the middle of one."""
        self.call(secret)
        self.work(2 * CYCLE)
        super().work(CYCLE / 2)
        self._saved = secret
        super().work(CYCLE / 2)
        self.secret = secret


class Rotation:
    """A service with its projection process, a provider, and whoever rotates its secret."""

    def __init__(self, client: Client, clock: HandClock, admin: str, provider: type[Okta]) -> None:
        self.client = client
        self._admin = {"Authorization": f"Bearer {admin}"}
        made = self._post("/scim-token", {"team_id": str(uuid4()), "name": "Okta"}, status=201)
        self._path = f"/scim-token/{made['id']}"
        self.older: str = made["token"]
        self.newer = ""
        self.provider = provider(client, clock, self.older)

    def begin(self) -> None:
        """The provider works, and its token is rotated meanwhile."""
        self.provider.work(HOUR)
        seconds = OVERLAP // timedelta(seconds=1)
        self.newer = self._post(f"{self._path}/rotate", {"overlap_seconds": seconds})["token"]
        self.provider.work(HOUR / 2)

    def end(self, how: str) -> None:
        """Complete or cancel it."""
        self._post(f"{self._path}/rotate/{how}", {})

    def is_underway(self) -> bool:
        """Whether two secrets are good."""
        return "rotation" in self.client.get(self._path, headers=self._admin).json()

    def work_until_it_is_over(self) -> None:
        """The provider goes on until the rotation has ended, and an hour more."""
        for _ in range(20):
            self.provider.work(HOUR / 2)
            if not self.is_underway():
                break
        assert not self.is_underway()
        self.provider.work(HOUR)

    def _post(self, path: str, body: dict[str, Any], *, status: int = 200) -> dict[str, Any]:
        answer = self.client.post(path, headers=self._admin, json=body)
        assert answer.status_code == status, answer.text
        told: dict[str, Any] = answer.json()
        return told


def presented(client: Client, secret: str) -> int:
    """What a door answers."""
    return client.get("/gateway/nginx", headers={"Authorization": f"Bearer {secret}"}).status_code


async def api_token(database: Database, clock: HandClock) -> str:
    async with TokenLedger(
        database.app,
        pepper=Pepper([PEPPER_KEY.encode()]),
        clock_and_ids=clock.clock_and_ids,
    ) as ledger:
        ask = NewApiToken(uuid4(), None, tuple(Permission), timedelta(days=365))
        return (await ledger.create_api_token(ask))[1].reveal()


@contextmanager
def rotating(
    database: Database, provider: type[Okta], rule: FinishRule = DEFAULT_RULE
) -> Iterator[Rotation]:
    """A rotation that is under way, in a service whose time a provider's calls compress."""
    believing_any_clock(database)
    clock, stop = HandClock(T0), threading.Event()
    runner = Runner(database.app, PROJECTIONS)
    thread = threading.Thread(target=runner.run, args=(stop.is_set,))
    told = Settings(database_url=database.app, pepper=PEPPER_KEY)
    admin = asyncio.run(api_token(database, clock))
    thread.start()
    try:
        with (
            Telling(database.app, clock.clock_and_ids, is_leading=lambda: True, finish_rule=rule),
            TestClient(build(told, clock_and_ids=clock.clock_and_ids)) as client,
        ):
            rotation = Rotation(client, clock, admin, provider)
            rotation.begin()
            yield rotation
    finally:
        stop.set()
        thread.join()


def completes(rotation: Rotation) -> None:
    """Somebody sees that the newer secret is used, and completes it."""
    rotation.provider.is_told(rotation.newer)
    rotation.provider.work(HOUR)
    rotation.end("complete")
    rotation.provider.work(HOUR)


def goes_on(rotation: Rotation) -> None:
    """Nobody does anything more than to tell the provider."""
    rotation.provider.is_told(rotation.newer)
    rotation.work_until_it_is_over()


def cancels(rotation: Rotation) -> None:
    """The newer secret was tried, never saved, and is taken back."""
    rotation.provider.call(rotation.newer)
    rotation.provider.work(HOUR)
    rotation.end("cancel")
    rotation.provider.work(HOUR)


ENDS: Final[dict[str, tuple[Callable[[Rotation], None], FinishRule]]] = {
    "completed": (completes, DEFAULT_RULE),
    "by itself": (goes_on, DEFAULT_RULE),
    "with its overlap": (goes_on, NEVER_SILENT),
    "cancelled": (cancels, DEFAULT_RULE),
}


@pytest.mark.long
@pytest.mark.parametrize("provider", [Okta, Entra])
@pytest.mark.parametrize("end", ENDS)
def test_no_call_is_refused(database: Database, provider: type[Okta], end: str) -> None:
    live, rule = ENDS[end]
    with rotating(database, provider, rule) as rotation:
        live(rotation)
        assert rotation.provider.refused == []
        assert rotation.provider.calls > 400
        assert not rotation.is_underway()
        over, good = rotation.older, rotation.newer
        if live is cancels:
            over, good = good, over
        assert rotation.provider.secret == good
        client = rotation.provider.client
        assert [presented(client, secret) for secret in (over, good)] == [401, 200]


@pytest.mark.long
def test_planted_a_finish_that_does_not_wait_for_a_cycle_refuses_calls(
    database: Database,
) -> None:
    with rotating(database, Entra, AT_ONCE) as rotation:
        rotation.provider.is_told(rotation.newer)
        assert {status for _, status in rotation.provider.refused} == {401}


@pytest.mark.long
def test_planted_a_completion_before_the_provider_is_told_refuses_calls(
    database: Database,
) -> None:
    with rotating(database, Okta) as rotation:
        rotation.end("complete")
        rotation.provider.work(MINUTE)
        assert {status for _, status in rotation.provider.refused} == {401}
