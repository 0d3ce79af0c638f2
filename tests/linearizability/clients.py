"""Eight clients of two services who do whatever can be done to the same few tokens at once,
and what they saw.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count, cycle
from math import inf
from time import monotonic
from typing import Any, Final, Self
from uuid import UUID, uuid4

from domain.errors import Unavailable
from projections.described import rfc3339
from tests.linearizability.checker import Operation
from tests.linearizability.finisher import Finisher
from tests.linearizability.plans import AWAIT_END, CLIENTS, Plan, Step
from tests.linearizability.token_model import (
    AUTHENTICATE,
    BURN,
    CANCEL,
    COMPLETE,
    CREATE,
    END,
    FINISH,
    LIMIT,
    LIST,
    RENAME,
    RESTRICT,
    RESUME,
    REVOKE,
    ROTATE,
    ROTATE_AT_ONCE,
    SUSPEND,
    UNLIMIT,
    WIDEN,
)
from tests.presenting import UnexpectedAnswer
from tests.raw_http import Answer, Client, Lost, request

ENDS_AFTER: Final = timedelta(milliseconds=40)
"""An end that comes while the others go on."""
SLACK_S: Final = 0.005
"""The services' clock has milliseconds, and is read beside ours."""
_DONE: Final = {200: "done", 404: "missing"}
_ENDED: Final = _DONE | {409: "not underway"}
_CHANGED: Final = _DONE | {400: "expired"}
_ROTATED: Final = {200: "rotated", 404: "missing", 400: "expired", 429: "too soon"}
_NAMED: Final = {
    CREATE: {201: "created", 409: "exists"},
    REVOKE: _DONE,
    BURN: {200: "done"},
    SUSPEND: _DONE,
    RESUME: _DONE,
    RESTRICT: _DONE,
    WIDEN: _DONE,
    RENAME: _CHANGED,
    LIMIT: _CHANGED,
    UNLIMIT: _CHANGED,
    ROTATE: _ROTATED,
    ROTATE_AT_ONCE: _ROTATED,
    COMPLETE: _ENDED,
    CANCEL: _ENDED,
}
"""What the model calls an answer, by status."""
_COMMANDS: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    REVOKE: ("DELETE", "", {}),
    LIST: ("GET", "/secrets", {}),
    SUSPEND: ("POST", "/suspend", {}),
    RESUME: ("POST", "/resume", {}),
    RESTRICT: ("PUT", "/networks", {"networks": ["192.0.2.0/24"]}),
    WIDEN: ("DELETE", "/networks", {}),
    RENAME: ("PATCH", "", {"name": "Entra"}),
    LIMIT: ("PATCH", "", {}),
    UNLIMIT: ("PATCH", "", {"expires_at": None}),
    ROTATE: ("POST", "/rotate", {"overlap_seconds": 3600}),
    ROTATE_AT_ONCE: ("POST", "/rotate", {"overlap_seconds": 0}),
    COMPLETE: ("POST", "/rotate/complete", {}),
    CANCEL: ("POST", "/rotate/cancel", {}),
}
"""Method, path under that of the token, and body."""


@dataclass
class SharedToken:
    """A token that several clients ask for with one Idempotency-Key:
    whoever gets it tells the others.

    is_settled: its secret is known, or nobody will ever know it. secrets: by their numbers, as far
    as they are known. over_at: when the end that was asked for last is over. seen: what was done
    to it.
    """

    creators: int
    key: UUID = field(default_factory=uuid4)
    id: str | None = None
    secrets: dict[int, str] = field(default_factory=dict)
    over_at: float = 0
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    is_settled: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[Operation] = field(default_factory=list)

    def take_in(self, answer: Answer | None) -> None:
        """What a creator was told, None when the answer was lost."""
        self.creators -= 1
        if answer is not None and answer.status in {201, 409}:
            document = answer.json()
            self.id = document.get("id") or document["token_id"]
            if "token" in document:
                self.secrets[0] = document["token"]
        if 0 in self.secrets or self.creators == 0:
            self.is_settled.set()

    def ends_soon(self, number: int) -> str:
        """An end to ask for. That it comes is seen by everybody, like an operation."""
        end = datetime.now(UTC) + ENDS_AFTER
        at = _instant(rfc3339(end))
        self.over_at = max(self.over_at, at + 2 * SLACK_S)
        self.seen.append(Operation(END, "came", at - SLACK_S, at + SLACK_S, number))
        return rfc3339(end)

    def subject(self, step: Step) -> int | None:
        """The secret or the end that a step is about, by its number; None where it is not known."""
        if step.kind in {ROTATE, ROTATE_AT_ONCE, LIMIT}:
            return next(self.numbers)
        if step.kind not in {AUTHENTICATE, BURN, FINISH}:
            return 0
        if step.kind == FINISH or step.is_newer:
            return max(self.secrets, default=None)
        return 0 if 0 in self.secrets else None


class Crowd:
    """Eight clients, with connections that they keep from history to history."""

    def __init__(self, urls: Sequence[str], api_token: str, finisher: Finisher) -> None:
        self._clients = [Client(url) for url, _ in zip(cycle(urls), range(CLIENTS), strict=False)]
        self._api_token = api_token
        self._finisher = finisher
        self._team = str(uuid4())
        self._stack = AsyncExitStack()

    async def history(self, steps: Plan) -> list[list[Operation]]:
        """Carry out a plan, all clients at once; what was seen of each token."""
        creations = [step.place for client in steps for step in client if step.kind == CREATE]
        tokens = [SharedToken(creations.count(place)) for place in sorted(set(creations))]
        async with asyncio.TaskGroup() as group:
            for client, own in zip(self._clients, steps, strict=True):
                group.create_task(self._walk(client, own, tokens))
        for client, token in zip(cycle(self._clients), tokens, strict=False):
            for newer in (False, True):
                step = Step(AUTHENTICATE, 0, is_newer=newer)
                await self._take(client, step, token)
        return [token.seen for token in tokens]

    async def _walk(
        self, client: Client, steps: Sequence[Step], tokens: Sequence[SharedToken]
    ) -> None:
        for step in steps:
            token = tokens[step.place]
            if step.kind != CREATE:
                await token.is_settled.wait()
            await self._take(client, step, token)

    async def _take(self, client: Client, step: Step, token: SharedToken) -> None:
        if step.kind == AWAIT_END:
            await asyncio.sleep(token.over_at - monotonic())
            return
        subject = token.subject(step)
        if subject is None or (token.id is None and step.kind != CREATE):
            return  # the answer that told it was lost
        if step.kind == FINISH:
            await self._finish(token, subject)
        else:
            await self._ask(client, step, token, subject)

    async def _finish(self, token: SharedToken, made: int) -> None:
        """As the process does that looks for rotations which have finished."""
        invoked_at = monotonic()
        try:
            has_finished = await self._finisher.finish(UUID(token.id), token.secrets[made])
        except Unavailable:
            token.seen.append(Operation(FINISH, None, invoked_at, subject=made))
            return
        told = "finished" if has_finished else "silent"
        token.seen.append(Operation(FINISH, told, invoked_at, monotonic(), made))

    async def _ask(self, client: Client, step: Step, token: SharedToken, subject: int) -> None:
        """Ask, and write down what became of it."""
        invoked_at, answer = monotonic(), None
        asked = self._request(step, token, subject)
        if step.is_abandoned:
            await client.abandon(asked)
        else:
            with suppress(Lost):
                answer = await client.ask(asked)
        if step.kind == CREATE:
            token.take_in(answer)
        told = None if answer is None else _told(step, answer, invoked_at)
        if told == "rotated" and answer is not None:
            token.secrets[subject] = answer.json()["token"]
        answered_at = inf if answer is None or told is None else answer.at
        token.seen.append(Operation(step.kind, told, invoked_at, answered_at, subject))

    def _request(self, step: Step, token: SharedToken, subject: int) -> bytes:
        if step.kind == AUTHENTICATE:
            return step.door.ask(token.secrets[subject], self._api_token)
        if step.kind == BURN:
            return request("POST", "/revoke", form=f"token={token.secrets[subject]}")
        if step.kind == CREATE:
            key, document = f"Idempotency-Key: {token.key}", {"team_id": self._team, "name": "Okta"}
            return request("POST", "/scim-token", key, authorization=self._api_token, **document)
        method, path, document = _COMMANDS[step.kind]
        if step.kind == LIMIT:
            document = {"expires_at": token.ends_soon(subject)}
        path = f"/scim-token/{token.id}{path}"
        return request(method, path, authorization=self._api_token, **document)

    async def __aenter__(self) -> Self:
        for client in self._clients:
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


def _told(step: Step, answer: Answer, invoked_at: float) -> str | None:
    """An answer as the model names it; None when it says that nothing is known."""
    if answer.status == 503:
        return None
    if step.kind == AUTHENTICATE:
        return step.door.read(answer).verdict.value
    if step.kind == LIST and answer.status == 200:
        return _good(answer, invoked_at)
    if step.kind == LIMIT and answer.status == 400:
        (error,) = answer.json()["errors"]
        if error["pointer"] == "/expires_at":
            return None  # it came too late to be an end: nothing was changed
    if (named := _NAMED[step.kind].get(answer.status)) is None:
        raise UnexpectedAnswer(answer.raw.decode())
    return named


def _good(answer: Answer, invoked_at: float) -> str | None:
    """Which secrets were good; None where one ended while the question was under way."""
    ends = [each["ends_at"] for each in answer.json()["result"]]
    ended_at = [inf if end is None else _instant(end) for end in ends]
    if any(invoked_at - SLACK_S < at < answer.at + SLACK_S for at in ended_at):
        return None
    names = zip(("older", "newer"), ended_at, strict=False)
    return " ".join(name for name, at in names if at > answer.at) or "none"


def _instant(text: str) -> float:
    """An instant of the services' clock, by ours."""
    return datetime.fromisoformat(text).timestamp() - time.time() + monotonic()


def described(history: Sequence[Operation]) -> Iterator[str]:
    """Lines for a reader, in the order of invocation; instants in milliseconds from the first."""
    start = min(operation.invoked_at for operation in history)
    for operation in sorted(history, key=lambda operation: operation.invoked_at):
        began, ended = (1000 * (at - start) for at in (operation.invoked_at, operation.answered_at))
        what = f"{operation.kind} {operation.subject}"
        yield f"{began:8.2f} to {ended:8.2f} ms  {what:<16} {operation.answer}"
