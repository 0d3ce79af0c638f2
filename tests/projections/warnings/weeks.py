"""A ledger whose time a test moves by weeks, and the process that tells what is due."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.event import Event
from domain.eventstore.event_registry import REGISTRY
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from domain.scim_token.warnings import EVENTS
from domain.secret import Secret
from projections.registry import PROJECTIONS
from projections.runner import Runner
from projections.warnings.teller import Teller
from tests.conftest import Database, catch_up, open_ledger
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import T0, TEAM_ID
from tests.projections.given_events import select

DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
ADA: Final = Operator(user_id=UUID(int=1))
TOPICS: Final = frozenset(event.topic for event in EVENTS)


class Told(NamedTuple):
    """A warning in the ledger."""

    token_id: UUID
    at: datetime
    event: Event


class Weeks:
    """A ledger and its clock. `teller` is the process of warnings as it is now."""

    def __init__(self, database: Database, ledger: TokenLedger, clock: HandClock) -> None:
        self.database = database
        self.ledger = ledger
        self.clock = clock

    async def create(self, *, lifetime: timedelta | None = None) -> tuple[UUID, Secret]:
        """A token that ends after `lifetime`."""
        expires_at = None if lifetime is None else self.clock.now + lifetime
        token, secret = await self.ledger.create_scim_token(
            NewScimToken(TEAM_ID, "Okta", expires_at), by=ADA
        )
        return token.id, secret

    async def use(self, secret: Secret, *, source: str | None = "192.0.2.1") -> None:
        """Present its secret, at a door."""
        await self.ledger.authenticate(secret, Presentation(door="scim", source=source))

    @asynccontextmanager
    async def teller(self) -> AsyncIterator[Teller]:
        """A process that tells what is due."""
        async with Teller(self.database.app, self.clock.clock_and_ids) as teller:
            yield teller

    @contextmanager
    def followed(self) -> Iterator[None]:
        """The views follow the ledger by themselves."""
        stop = threading.Event()
        runner = Runner(self.database.app, PROJECTIONS)
        thread = threading.Thread(target=runner.run, args=(stop.is_set,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    async def rounds(self, teller: Teller, count: int = 1) -> None:
        """Rounds of it, each on views that follow the ledger."""
        for _ in range(count):
            catch_up(self.database)
            await teller.round()

    async def live(self, teller: Teller, span: timedelta, *, step: timedelta = HOUR) -> None:
        """Let time pass, with a round after each step."""
        for _ in range(span // step):
            self.clock.advance(step)
            await self.rounds(teller)

    def told(self, token_id: UUID | None = None) -> list[Told]:
        """Every warning of the ledger, in order; of one token where it is named."""
        rows = select(
            self.database,
            "SELECT originator_id, at, topic, state FROM ledger.events ORDER BY notification_id",
        )
        return [
            Told(id_, at, REGISTRY.decode(topic, state))
            for id_, at, topic, state in rows
            if topic in TOPICS and token_id in {None, id_}
        ]

    def events(self, token_id: UUID | None = None) -> list[Event]:
        """The same without where and when."""
        return [told.event for told in self.told(token_id)]


@asynccontextmanager
async def weeks(database: Database) -> AsyncIterator[Weeks]:
    """A ledger that begins at T0."""
    clock = HandClock(T0)
    async with open_ledger(
        believing_any_clock(database), clock_and_ids=clock.clock_and_ids
    ) as ledger:
        yield Weeks(database, ledger, clock)
