"""Tokens in constant use are revoked one by one:
no success begins after the answer to its revocation.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle, islice
from random import choice, randrange
from time import monotonic
from typing import Final, NamedTuple
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.ledger import TokenLedger
from domain.scim_token.events import Used
from tests.conftest import Database
from tests.domain.eventstore.consistency import assert_consistent
from tests.linearizability.caching_front import caching_fronts
from tests.presenting import FORWARD, NGINX, SCIM, VERIFY, Verdict
from tests.raw_http import Client, request, run
from tests.service import RunningService

pytestmark = [
    pytest.mark.long,
    pytest.mark.xdist_group("revoke_storm"),  # or each worker of a parallel run starts its own
]

USERS: Final = 16
REVOKERS: Final = 8
BEHIND, AHEAD = 8, 32
"""How far from the newest revocation tokens are used: all load goes where the order is in doubt."""
DOORS: Final = (NGINX, FORWARD, SCIM, VERIFY)
REFUSALS: Final = {Verdict.NO, Verdict.REVOKED}
TEAM, ADA = uuid4(), Operator(uuid4())

RECORDED_USES: Final = """
    SELECT originator_id, sum((convert_from(state, 'utf8')::json->>'count')::int)::int
    FROM ledger.events WHERE topic = %s GROUP BY originator_id
"""
"""By token; the uses of one commit are one event with a count."""


class RevokedTokenLetIn(AssertionError):
    """A use succeeded that began after the revocation was answered."""


class Token(NamedTuple):
    """One that will be revoked. secret: as text."""

    id: UUID
    secret: str


class Use(NamedTuple):
    """One presentation. place: of the token among all."""

    place: int
    verdict: Verdict
    asked_at: float
    answered_at: float


class Revocation(NamedTuple):
    """One that was answered."""

    asked_at: float
    answered_at: float


@dataclass
class Storm:
    """All that happened, as the clients of two services saw it.

    Instants are of this process's clock.
    """

    tokens: Sequence[Token]
    api_token: str
    uses: list[Use] = field(default_factory=list)
    revocations: dict[int, Revocation] = field(default_factory=dict)
    _places: Iterator[int] = field(default_factory=count)

    async def rage(self, urls: Sequence[str]) -> None:
        """Revoke every token by one service or the other, while all are used by both."""
        async with asyncio.TaskGroup() as group:
            for number, url in enumerate(islice(cycle(urls), REVOKERS)):
                group.create_task(self._revoke(url, urls[1 - number % 2]))
            for url in islice(cycle(urls), USERS):
                group.create_task(self._use(url))

    async def _revoke(self, here: str, there: str) -> None:
        """One token after the other: revoked here, and at once refused there."""
        async with Client(here) as one, Client(there) as other:
            while (place := next(self._places)) < len(self.tokens):
                asked_at = monotonic()
                answer = await one.ask(self._revocation(place))
                assert answer.status == 200, answer.raw
                self.revocations[place] = Revocation(asked_at, answer.at)
                while await self._present(other, place) is Verdict.UNAVAILABLE:
                    pass

    def _revocation(self, place: int) -> bytes:
        token = self.tokens[place]
        if place % 2:
            return request("POST", "/revoke", form=f"token={token.secret}")
        return request("DELETE", f"/scim-token/{token.id}", authorization=self.api_token)

    async def _use(self, url: str) -> None:
        async with Client(url) as client:
            while (revoked := len(self.revocations)) < len(self.tokens):
                first, after = max(0, revoked - BEHIND), min(len(self.tokens), revoked + AHEAD)
                await self._present(client, randrange(first, after))

    async def _present(self, client: Client, place: int) -> Verdict:
        door, asked_at = choice(DOORS), monotonic()
        answer = await client.ask(door.ask(self.tokens[place].secret, self.api_token))
        verdict = door.read(answer).verdict
        self.uses.append(Use(place, verdict, asked_at, answer.at))
        return verdict

    def check(self, database: Database) -> None:
        """Raise RevokedTokenLetIn, or another AssertionError for a wrong
        refusal or a wrong count.
        """
        assert len(self.revocations) == len(self.tokens)
        after = [use for use in self.uses if use.asked_at > self.revocations[use.place].answered_at]
        if late := [use for use in after if use.verdict is Verdict.YES]:
            raise RevokedTokenLetIn(f"{len(late)} of {len(after)} uses")
        assert {use.verdict for use in after} <= {*REFUSALS, Verdict.UNAVAILABLE}
        assert {use.place for use in after if use.verdict in REFUSALS} == set(
            range(len(self.tokens))
        )
        before = [
            use for use in self.uses if use.answered_at < self.revocations[use.place].asked_at
        ]
        assert {use.verdict for use in before} <= {Verdict.YES, Verdict.UNAVAILABLE}
        self._check_worth(before)
        self._check_counts(database)

    def _check_worth(self, before: Sequence[Use]) -> None:
        """Nearly every token was let in before its revocation,
        and many were presented during it.
        """
        used = {use.place for use in before if use.verdict is Verdict.YES}
        assert len(used) > 0.8 * len(self.tokens), len(used)
        during = [use for use in self.uses if self._is_during(use)]
        assert len(during) > 0.3 * len(self.tokens), len(during)

    def _is_during(self, use: Use) -> bool:
        revocation = self.revocations[use.place]
        return use.asked_at <= revocation.answered_at and revocation.asked_at <= use.answered_at

    def _check_counts(self, database: Database) -> None:
        """Every yes is recorded, and nothing else but uses whose yes could not be given in time."""
        with psycopg.connect(database.owner) as connection:
            recorded: dict[UUID, int] = dict(
                connection.execute(RECORDED_USES, [Used.topic]).fetchall()
            )
        told = Counter((use.place, use.verdict) for use in self.uses)
        for place, token in enumerate(self.tokens):
            yes = told[place, Verdict.YES]
            assert yes <= recorded.get(token.id, 0) <= yes + told[place, Verdict.UNAVAILABLE], (
                token.id
            )


def new_storm(service: RunningService, size: int) -> Storm:
    """So many tokens, none of them used or revoked."""

    async def create(ledger: TokenLedger) -> list[Token]:
        made = [
            await asyncio.gather(
                *(ledger.create_scim_token(NewScimToken(TEAM, "Okta"), by=ADA) for _ in range(100))
            )
            for _ in range(-(-size // 100))
        ]
        return [Token(token.id, secret.reveal()) for hundred in made for token, secret in hundred][
            :size
        ]

    return Storm(service.command(create), service.api_token().secret)


@pytest.mark.parametrize("size", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_success_begins_after_the_answer_to_its_revocation(
    two_services: tuple[RunningService, RunningService], size: int
) -> None:
    storm = new_storm(two_services[0], size)
    run(lambda: storm.rage([service.url for service in two_services]))
    storm.check(two_services[0].database)
    assert_consistent(two_services[0].database)


def test_a_cache_of_good_answers_would_be_found(
    two_services: tuple[RunningService, RunningService],
) -> None:
    storm = new_storm(two_services[0], 40)

    async def rage_at_fronts() -> None:
        async with caching_fronts([service.url for service in two_services]) as (urls, _):
            await storm.rage(urls)

    run(rage_at_fronts)
    with pytest.raises(RevokedTokenLetIn):
        storm.check(two_services[0].database)
