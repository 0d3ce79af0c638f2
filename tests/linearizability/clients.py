"""Eight clients of two services who create, use and revoke the same few tokens at once,
and what they saw.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import cycle
from math import inf
from random import Random
from time import monotonic
from typing import Final, NamedTuple, Self
from uuid import UUID, uuid4

from tests.linearizability.checker import Operation
from tests.linearizability.token_model import (
    AUTHENTICATE,
    BURN,
    CREATE,
    RESUME,
    REVOKE,
    SUSPEND,
)
from tests.presenting import FORWARD, NGINX, SCIM, VERIFY, Door, UnexpectedAnswer
from tests.raw_http import Answer, Client, Lost, request

CLIENTS: Final = 8
DOORS: Final = (VERIFY, VERIFY, NGINX, FORWARD, SCIM)
"""Mostly /verify, for it tells most: why not."""
_ENDINGS: Final = (REVOKE, BURN)
_PAUSES: Final = (SUSPEND, RESUME)
_NAMED: Final = {
    CREATE: {201: "created", 409: "exists"},
    REVOKE: {200: "done", 404: "missing"},
    BURN: {200: "done"},
    SUSPEND: {200: "done", 404: "missing"},
    RESUME: {200: "done", 404: "missing"},
}
"""What the model calls an answer, by status."""


class Step(NamedTuple):
    """One thing for one client to do. place: of the token among those of the history.

    is_abandoned: hang up instead of waiting for the answer.
    """

    kind: str
    place: int
    door: Door = VERIFY
    is_abandoned: bool = False


Plan = Sequence[Sequence[Step]]
"""What each client does, in its order."""


def plan(random: Random) -> Plan:
    """One or two tokens; some clients create each (one gets it), all use it,
    and it ends in the middle.
    """
    steps: list[list[Step]] = [[] for _ in range(CLIENTS)]
    tokens = range(random.randint(1, 2))
    for place in tokens:
        for client in random.sample(range(CLIENTS), random.choice([1, 1, 2])):
            steps[client].append(Step(CREATE, place, is_abandoned=random.random() < 0.05))
    for client in range(CLIENTS):
        steps[client] += [_later_step(random, tokens) for _ in range(random.choice([1, 1, 2]))]
        if random.random() < 0.15:
            steps[client].insert(-1, Step(SUSPEND, random.choice(tokens)))
            steps[random.randrange(CLIENTS)].append(Step(RESUME, random.choice(tokens)))
    for place in tokens:
        ended = random.choice(steps)
        ended.insert(random.choice([-1, len(ended)]), Step(random.choice(_ENDINGS), place))
    return steps


def _later_step(random: Random, tokens: Sequence[int]) -> Step:
    place = random.choice(tokens)
    if random.random() < 0.93:
        return Step(AUTHENTICATE, place, random.choice(DOORS))
    if random.random() < 0.5:
        return Step(random.choice(_PAUSES), place, is_abandoned=random.random() < 0.2)
    return Step(random.choice(_ENDINGS), place, is_abandoned=random.random() < 0.5)


@dataclass
class SharedToken:
    """A token that several clients ask for with one Idempotency-Key:
    whoever gets it tells the others.

    is_settled: its secret is known, or nobody will ever know it. seen: what was done to it.
    """

    creators: int
    key: UUID = field(default_factory=uuid4)
    id: str | None = None
    secret: str | None = None
    is_settled: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[Operation] = field(default_factory=list)

    def take_in(self, answer: Answer | None) -> None:
        """What a creator was told, None when the answer was lost."""
        self.creators -= 1
        if answer is not None and answer.status in {201, 409}:
            document = answer.json()
            self.id = document.get("id") or document["token_id"]
            self.secret = self.secret or document.get("token")
        if self.secret is not None or self.creators == 0:
            self.is_settled.set()


class Crowd:
    """Eight clients, with connections that they keep from history to history."""

    def __init__(self, urls: Sequence[str], api_token: str) -> None:
        self._clients = [Client(url) for url, _ in zip(cycle(urls), range(CLIENTS), strict=False)]
        self._api_token = api_token
        self._team = str(uuid4())
        self._stack = AsyncExitStack()

    async def history(self, steps: Plan) -> list[list[Operation]]:
        """Carry out a plan, all clients at once; what was seen of each token."""
        creations = [step.place for client in steps for step in client if step.kind == CREATE]
        tokens = [SharedToken(creations.count(place)) for place in sorted(set(creations))]
        async with asyncio.TaskGroup() as group:
            for client, own in zip(self._clients, steps, strict=True):
                group.create_task(self._walk(client, own, tokens))
        return [token.seen for token in tokens]

    async def _walk(
        self, client: Client, steps: Sequence[Step], tokens: Sequence[SharedToken]
    ) -> None:
        for step in steps:
            token = tokens[step.place]
            if step.kind != CREATE:
                await token.is_settled.wait()
            asked = self._request(step, token)
            if asked is not None:
                await self._do(client, step, token, asked)

    def _request(self, step: Step, token: SharedToken) -> bytes | None:
        """None when what it takes is not known: the answer that told it was lost."""
        if step.kind == CREATE:
            key, document = f"Idempotency-Key: {token.key}", {"team_id": self._team, "name": "Okta"}
            return request("POST", "/scim-token", key, authorization=self._api_token, **document)
        if step.kind == REVOKE and token.id is not None:
            return request("DELETE", f"/scim-token/{token.id}", authorization=self._api_token)
        if step.kind in _PAUSES and token.id is not None:
            path = f"/scim-token/{token.id}/{step.kind}"
            return request("POST", path, authorization=self._api_token)
        if token.secret is None or step.kind in _PAUSES:
            return None
        if step.kind == BURN:
            return request("POST", "/revoke", form=f"token={token.secret}")
        return step.door.ask(token.secret, self._api_token)

    async def _do(self, client: Client, step: Step, token: SharedToken, asked: bytes) -> None:
        """Ask, and write down what became of it."""
        invoked_at, answer = monotonic(), None
        if step.is_abandoned:
            await client.abandon(asked)
        else:
            with suppress(Lost):
                answer = await client.ask(asked)
        if step.kind == CREATE:
            token.take_in(answer)
        told = None if answer is None else _told(step, answer)
        answered_at = inf if answer is None or told is None else answer.at
        token.seen.append(Operation(step.kind, told, invoked_at, answered_at))

    async def __aenter__(self) -> Self:
        for client in self._clients:
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


def _told(step: Step, answer: Answer) -> str | None:
    """An answer as the model names it; None when it says that nothing is known."""
    if answer.status == 503:
        return None
    if step.kind == AUTHENTICATE:
        return step.door.read(answer).verdict.value
    if (named := _NAMED[step.kind].get(answer.status)) is None:
        raise UnexpectedAnswer(answer.raw.decode())
    return named


def described(history: Sequence[Operation]) -> Iterator[str]:
    """Lines for a reader, in the order of invocation; instants in milliseconds from the first."""
    start = min(operation.invoked_at for operation in history)
    for operation in sorted(history, key=lambda operation: operation.invoked_at):
        began, ended = (1000 * (at - start) for at in (operation.invoked_at, operation.answered_at))
        yield f"{began:8.2f} to {ended:8.2f} ms  {operation.kind:<12} {operation.answer}"
