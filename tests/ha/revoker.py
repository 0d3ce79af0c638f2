"""Tokens that are revoked one after the other, whatever happens to the database meanwhile;
and the proof that none of them was let in, or shown, after the answer.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import choice
from typing import Final
from uuid import UUID

from tests.presenting import Door, Verdict
from tests.raw_http import Client, request

EVERY_S: Final = 0.5
ASKED_EVERY_S: Final = 0.02
REFUSALS: Final = {Verdict.NO, Verdict.REVOKED}


class RevokedTokenAlive(AssertionError):
    """A token was let in, or read, by a call that began after its revocation was answered."""


class Revoker:
    """Of one service. tokens: ids and secrets, of which it revokes as many as there is time for.

    answers: how many verdicts the revoked ones were given.
    """

    def __init__(
        self, url: str, api_token: str, tokens: Sequence[tuple[UUID, str]], doors: Sequence[Door]
    ) -> None:
        self.revoked: list[tuple[UUID, str]] = []
        self.answers: Counter[Verdict] = Counter()
        self.reads: Counter[int] = Counter()
        self._url, self._api_token, self._tokens, self._doors = url, api_token, tokens, doors
        self._is_over = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """It goes on for as long as the block takes."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._revoke_on())
            group.create_task(self._present_on())
            group.create_task(self._read_on())
            try:
                yield
            finally:
                self._is_over = True

    async def check(self) -> None:
        """Raise RevokedTokenAlive unless each revoked one is refused at each door, and gone."""
        assert self.revoked
        async with Client(self._url) as client:
            for token in self.revoked:
                for door in self._doors:
                    verdict = await self._presented(client, token, door)
                    assert verdict in REFUSALS, verdict
                assert await self._read(client, token) == 404

    async def _revoke_on(self) -> None:
        async with Client(self._url) as client:
            for token in self._tokens:
                ask = request("DELETE", f"/scim-token/{token[0]}", authorization=self._api_token)
                while not self._is_over and (answer := await client.ask(ask)).status == 503:
                    pass
                if self._is_over:
                    return
                assert answer.status in {200, 404}, answer.raw  # 404: a 503 of before has done it
                self.revoked.append(token)
                await asyncio.sleep(EVERY_S)

    async def _present_on(self) -> None:
        async with Client(self._url) as client:
            while not self._is_over:
                await asyncio.sleep(ASKED_EVERY_S)
                if self.revoked:
                    door = choice(self._doors)
                    self.answers[await self._presented(client, self._one(), door)] += 1

    async def _read_on(self) -> None:
        async with Client(self._url) as client:
            while not self._is_over:
                await asyncio.sleep(ASKED_EVERY_S)
                if self.revoked:
                    self.reads[await self._read(client, self._one())] += 1

    def _one(self) -> tuple[UUID, str]:
        """The newest is where it is in doubt."""
        return choice([self.revoked[-1], choice(self.revoked)])

    async def _presented(self, client: Client, token: tuple[UUID, str], door: Door) -> Verdict:
        answer = await client.ask(door.ask(token[1], self._api_token))
        verdict = door.read(answer).verdict
        if verdict not in {*REFUSALS, Verdict.UNAVAILABLE}:
            raise RevokedTokenAlive(f"{door.name}: {answer.raw!r}")
        return verdict

    async def _read(self, client: Client, token: tuple[UUID, str]) -> int:
        ask = request("GET", f"/scim-token/{token[0]}", authorization=self._api_token)
        answer = await client.ask(ask)
        if answer.status not in {404, 503}:
            raise RevokedTokenAlive(repr(answer.raw))
        return answer.status
