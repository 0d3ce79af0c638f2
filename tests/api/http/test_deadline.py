"""A request is answered in its time, whatever its application does."""

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import Any, Final, Literal, TypeAlias, cast

import pytest
import uvloop
from hypothesis import example, given
from hypothesis import strategies as st
from litestar.types import HTTPScope, Message

from api.http.deadline import answer_in_time, deadline_of
from tests.api.http.hasty_loop import HastyLoop

WITHIN_S = 0.1
ANSWER: Message = {"type": "http.response.start", "status": 200, "headers": []}
REFUSAL: Message = {"type": "http.response.start", "status": 503, "headers": []}


class Client:
    """What reaches the client, and the body that it sends after `body_after_s`."""

    def __init__(self, *, body_after_s: float = 0) -> None:
        self.seen: list[Message] = []
        self.answered = asyncio.Event()
        self.body_after_s = body_after_s

    async def receive(self) -> Any:
        await asyncio.sleep(self.body_after_s)
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


def test_an_answer_that_its_client_takes_slowly_is_not_given_twice() -> None:
    class Slow(Client):
        async def send(self, message: Message) -> None:
            await asyncio.sleep(2 * WITHIN_S)
            await super().send(message)

    async def main() -> None:
        client = Slow()
        await ask(client, answering)
        assert client.seen == [ANSWER]

    uvloop.run(main())


def test_a_refusal_is_whole_when_the_request_ends() -> None:
    async def refuse_slowly(_: Any, __: Any, send: Any) -> None:
        await asyncio.sleep(WITHIN_S / 2)
        await send(REFUSAL)

    async def main() -> None:
        client, scope = Client(), cast("HTTPScope", {"state": {}})
        await answer_in_time(
            hanging,
            refuse_slowly,
            scope,
            client.receive,
            client.send,
            within_s=WITHIN_S,
        )
        assert client.seen == [REFUSAL]

    uvloop.run(main())


def test_a_fault_of_the_application_is_its_servers_to_hear() -> None:
    async def failing(_: Any, __: Any, ___: Any) -> None:
        raise LookupError

    async def main() -> None:
        client = Client()
        with pytest.raises(LookupError):
            await ask(client, failing)
        assert client.seen == []

    uvloop.run(main())


def test_what_comes_after_a_body_that_failed_counts() -> None:
    class Leaving(Client):
        async def receive(self) -> Any:
            raise ConnectionResetError

    async def going_on(_: Any, receive: Any, __: Any) -> None:
        with suppress(ConnectionResetError):
            await receive()
        await asyncio.sleep(10)

    async def main() -> None:
        client = Leaving()
        await asyncio.wait_for(ask(client, going_on), 1)
        assert client.seen == [REFUSAL]

    uvloop.run(main())


TICK_S: Final = 1 / 128
TIME: Final = 10.5
"""Of a request, in ticks: nothing else ends halfway between two of them."""
Step: TypeAlias = tuple[Literal["works", "reads", "waits", "waits in turns"], int]
STEPS: Final = st.tuples(
    st.sampled_from(["works", "works", "reads", "waits", "waits in turns"]), st.integers(0, 12)
)


def expires_at(steps: list[Step]) -> float | None:
    """In ticks after the request came; None where it is answered before."""
    now, left = 0.0, TIME
    for does, ticks in steps:
        if does == "works" and ticks > left:
            return now + left
        now += ticks
        if does == "works":
            left -= ticks
        elif does == "waits in turns":
            left = TIME
    return None


@example(steps=[("works", 6), ("reads", 1), ("works", 6)])
@example(steps=[("reads", 12), ("works", 6)])
@example(steps=[("works", 10), ("waits", 2), ("works", 0)])
@given(steps=st.lists(STEPS, max_size=7))
def test_its_time_is_what_it_spends_between_its_waits(steps: list[Step]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        deadline = deadline_of(scope)
        for does, ticks in steps:
            client.body_after_s = ticks * TICK_S
            if does == "reads":
                await receive()
                continue
            if does != "works":
                deadline.pause()
            await asyncio.sleep(ticks * TICK_S)
            if does == "waits":
                deadline.resume()
            elif does == "waits in turns":
                deadline.start_anew()
        await send(ANSWER)

    async def main() -> tuple[list[Message], float]:
        loop = asyncio.get_running_loop()
        scope: Any = {"state": {}}
        await answer_in_time(
            app, refuse, scope, client.receive, client.send, within_s=TIME * TICK_S
        )
        return client.seen, loop.time() / TICK_S

    client = Client()
    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        seen, at = runner.run(main())
    expected = expires_at(steps)
    if expected is None:
        assert (seen, at) == ([ANSWER], sum(ticks for _, ticks in steps))
    else:
        assert (seen, at) == ([REFUSAL], expected)


def test_nothing_is_kept_of_a_request_that_was_answered() -> None:
    """Neither until its time would have been over, nor until the collector comes."""

    async def main() -> None:
        for app, within_s in ((answering, 60.0), (hanging, WITHIN_S)):
            client = Client()
            scope: Any = {"state": {}}
            gc.disable()
            try:
                await answer_in_time(
                    app, refuse, scope, client.receive, client.send, within_s=within_s
                )
                deadline = weakref.ref(deadline_of(scope))
                del scope
                await asyncio.sleep(0)
                assert deadline() is None
            finally:
                gc.enable()

    uvloop.run(main())
