"""A request is answered in its time, whatever its application does."""

import asyncio
from typing import Any

import uvloop
from litestar.types import Message

from api.http.deadline import answer_in_time, deadline_of

WITHIN_S = 0.1
ANSWER: Message = {"type": "http.response.start", "status": 200, "headers": []}
REFUSAL: Message = {"type": "http.response.start", "status": 503, "headers": []}


class Client:
    """What reaches the client, and the body that it sends after `body_after_s`."""

    def __init__(self, *, body_after_s: float = 0) -> None:
        self.seen: list[Message] = []
        self.answered = asyncio.Event()
        self._body_after_s = body_after_s

    async def receive(self) -> Any:
        await asyncio.sleep(self._body_after_s)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        self.seen.append(message)
        self.answered.set()


async def ask(client: Client, app: Any) -> None:
    scope: Any = {"state": {}}
    await answer_in_time(app, refuse, scope, client.receive, client.send, within_s=WITHIN_S)


async def refuse(_: Any, __: Any, send: Any) -> None:
    await send(REFUSAL)


async def answering(_: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(ANSWER)


async def hanging(_: Any, receive: Any, send: Any) -> None:
    await receive()
    await asyncio.sleep(10)
    await send(ANSWER)


def test_a_body_that_takes_its_time_does_not_count() -> None:
    async def main() -> None:
        client = Client(body_after_s=3 * WITHIN_S)
        await ask(client, answering)
        assert client.seen == [ANSWER]

    uvloop.run(main())


def test_what_comes_after_a_slow_body_counts() -> None:
    async def main() -> None:
        client = Client(body_after_s=3 * WITHIN_S)
        await asyncio.wait_for(ask(client, hanging), 1)
        assert client.seen == [REFUSAL]

    uvloop.run(main())


def test_what_comes_after_each_wait_has_the_whole_time() -> None:
    async def looking(scope: Any, _: Any, send: Any) -> None:
        for _ in range(4):
            await asyncio.sleep(WITHIN_S / 2)
            deadline_of(scope).pause()
            deadline_of(scope).start_anew()
        await send(ANSWER)

    async def looking_in_vain(scope: Any, _: Any, __: Any) -> None:
        deadline_of(scope).pause()
        deadline_of(scope).start_anew()
        await asyncio.sleep(10)

    async def main() -> None:
        for app, seen in ((looking, ANSWER), (looking_in_vain, REFUSAL)):
            client = Client()
            await asyncio.wait_for(ask(client, app), 1)
            assert client.seen == [seen]

    uvloop.run(main())


def test_a_wait_that_was_asked_for_does_not_count() -> None:
    async def waiting(scope: Any, _: Any, send: Any) -> None:
        deadline_of(scope).pause()
        await asyncio.sleep(3 * WITHIN_S)
        deadline_of(scope).resume()
        await send(ANSWER)

    async def main() -> None:
        client = Client()
        await ask(client, waiting)
        assert client.seen == [ANSWER]

    uvloop.run(main())


def test_one_that_cannot_be_cancelled_is_refused_in_time_and_heard_no_more() -> None:
    async def stubborn(_: Any, __: Any, send: Any) -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await let_go.wait()
            await send(ANSWER)

    async def main() -> None:
        client = Client()
        asking = asyncio.create_task(ask(client, stubborn))
        await asyncio.wait_for(client.answered.wait(), 1)
        let_go.set()
        await asking
        assert client.seen == [REFUSAL]

    let_go = asyncio.Event()
    uvloop.run(main())


def test_an_answer_that_has_begun_goes_on() -> None:
    async def slow(_: Any, __: Any, send: Any) -> None:
        await send(ANSWER)
        await asyncio.sleep(2 * WITHIN_S)
        await send(ANSWER)

    async def main() -> None:
        client = Client()
        await ask(client, slow)
        assert client.seen == [ANSWER, ANSWER]

    uvloop.run(main())
