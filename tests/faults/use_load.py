"""Many clients who present tokens at every door, whatever happens to the store;
and the proof by use id.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from random import choice, random
from time import monotonic
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID, uuid4

import psycopg

from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import NewApiToken, NewScimToken
from domain.ledger import TokenLedger
from domain.scim_token.events import Used
from domain.secret import ENTROPY_BYTES, Pepper, SecretKind, mint
from tests.conftest import CLOCK_AND_IDS, Database
from tests.presenting import Door, Told, Verdict
from tests.raw_http import Client
from tests.service import PEPPER_KEY
from tests.stopwatch import stolen_s

CLIENTS: Final = 48
USE_DEADLINE_S: Final = 0.5
LOADED_S: Final = 0.5
"""What two cores add to a deadline when the clients, the service and the database share them."""
STOLEN_EVERY_S: Final = 0.05
"""How often it is looked at what the host gave to others, by which an answer may come later."""
TEAM: Final = uuid4()

Yes: TypeAlias = tuple[UUID, UUID, str]
"""The use id that was told, the token that was presented, the door."""

RECORDED: Final = """
    SELECT command_id, originator_id, (convert_from(state, 'utf8')::json->>'count')::int,
        convert_from(state, 'utf8')::json->'presentation'->>'door'
    FROM ledger.events WHERE topic = %s
"""
"""A use id is the command id of a `Used` event;
uses that were committed together share it, with a count.
"""


class YesWithoutRecord(AssertionError):
    """Somebody was let in, and the ledger does not know of it."""


class Recorded(NamedTuple):
    """A `Used` event."""

    token_id: UUID
    uses: int
    door: str


@dataclass(frozen=True)
class Population:
    """Who presents what.

    good: tokens by id, with their secrets. bad: secrets that must never be let in.
    """

    api_token: str
    good: Sequence[tuple[UUID, str]]
    bad: Sequence[str]


async def populate(database: Database, *, size: int) -> Population:
    """Tokens in the ledger of a service, two of them revoked;
    and a secret that it never heard of.
    """
    admin = NewApiToken(uuid4(), None, tuple(Permission), None)
    ask, operator = NewScimToken(TEAM, "Okta"), Operator(uuid4())
    async with TokenLedger(
        database.app, pepper=Pepper([PEPPER_KEY.encode()]), clock_and_ids=CLOCK_AND_IDS
    ) as ledger:
        _, api_secret = await ledger.create_api_token(admin)
        made = [await ledger.create_scim_token(ask, by=operator) for _ in range(size)]
        for token, _ in made[:2]:
            await ledger.revoke_scim_token(token.id, by=operator)
    bad = [secret for _, secret in made[:2]] + [
        mint(SecretKind.SCIM_LIVE, os.urandom(ENTROPY_BYTES))
    ]
    return Population(
        api_secret.reveal(),
        [(token.id, secret.reveal()) for token, secret in made[2:]],
        [secret.reveal() for secret in bad],
    )


class Load:
    """Clients of one service, each with a door of its own, and what they were told.

    answers: how many, by door and verdict. slowest_s: the longest wait for an answer, by door.
    """

    def __init__(self, url: str, population: Population, doors: Sequence[Door]) -> None:
        self.answers: Counter[tuple[str, Verdict]] = Counter()
        self.slowest_s: dict[str, float] = dict.fromkeys((door.name for door in doors), 0.0)
        self.calls = 0
        self._url, self._doors = url, doors
        self._yes: Counter[Yes] = Counter()
        self._late: list[str] = []
        self._wrong: list[str] = []
        self._good = {
            door: [(id_, door.ask(secret, population.api_token)) for id_, secret in population.good]
            for door in doors
        }
        self._bad = {
            door: [door.ask(secret, population.api_token) for secret in population.bad]
            for door in doors
        }
        self._is_over, self._stolen_s = False, 0.0
        self._awaited, self._has_come = 0, asyncio.Event()

    def count(self, verdict: Verdict) -> int:
        """How many answers of a kind there were."""
        return sum(number for (_, given), number in self.answers.items() if given is verdict)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Clients ask for as long as the block takes."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_host())
            for door in islice(cycle(self._doors), CLIENTS):
                group.create_task(self._ask_on(door))
            try:
                yield
            finally:
                self._is_over = True

    async def answered(self, more: int) -> None:
        """Wait until so many more answers have come, whatever they say."""
        self._awaited = self.calls + more
        self._has_come.clear()
        await self._has_come.wait()

    async def _watch_host(self) -> None:
        while not self._is_over:
            self._stolen_s = stolen_s()
            await asyncio.sleep(STOLEN_EVERY_S)

    async def _ask_on(self, door: Door) -> None:
        async with Client(self._url) as client:
            while not self._is_over:
                is_good = random() < 0.97
                token_id, request = (
                    self._one_of(door) if is_good else (None, choice(self._bad[door]))
                )
                asked_at, stolen_before_s = monotonic(), self._stolen_s
                answer = await client.ask(request)
                took_s = answer.at - asked_at
                if took_s > USE_DEADLINE_S + LOADED_S:
                    took_s -= stolen_s() - stolen_before_s
                self._take_in(door, door.read(answer), token_id, took_s=took_s)

    def _one_of(self, door: Door) -> tuple[UUID, bytes]:
        """Every third time the same token, for uses of one token merge."""
        return self._good[door][0] if random() < 1 / 3 else choice(self._good[door])

    def _take_in(self, door: Door, told: Told, asked: UUID | None, *, took_s: float) -> None:
        """asked: the token that was presented, None for a secret that must not be let in."""
        self.calls += 1
        self.answers[door.name, told.verdict] += 1
        self.slowest_s[door.name] = max(took_s, self.slowest_s[door.name])
        if took_s > USE_DEADLINE_S + LOADED_S:
            self._late.append(f"{door.name}: {took_s:.3f} s")
        if told.verdict is Verdict.YES:
            if asked is None or told.use_id is None or told.token_id not in {None, asked}:
                self._wrong.append(f"{door.name}: {told}")
            else:
                self._yes[told.use_id, asked, door.name] += 1
        elif told.verdict is not Verdict.UNAVAILABLE and asked is not None:
            self._wrong.append(f"{door.name}: {told}")
        if self.calls == self._awaited:
            self._has_come.set()

    def check(self, database: Database) -> None:
        """Raise YesWithoutRecord unless each yes has its record,
        and AssertionError for all else amiss.
        """
        with psycopg.connect(database.owner) as connection:
            rows = connection.execute(RECORDED, [Used.topic])
            recorded = {use_id: Recorded(*event) for use_id, *event in rows}
        missing = sum(
            number for (use_id, _, _), number in self._yes.items() if use_id not in recorded
        )
        if missing:
            raise YesWithoutRecord(f"{missing} of {self._yes.total()}")
        for (use_id, token_id, door), number in self._yes.items():
            event = recorded[use_id]
            assert (event.token_id, event.door) == (token_id, door), use_id
            assert event.uses >= number, use_id
        assert self._wrong == []
        assert self._late == []
