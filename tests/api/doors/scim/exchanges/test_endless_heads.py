"""The head of an answer has a limit, however it comes: nothing of it is held or waited for beyond.

A head that never ends is told by how much of it came; at its end it would be too late.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import pytest
import uvloop

from api.doors.scim.connection import MAX_HEAD_BYTES, Broken
from tests.api.doors.scim.test_upstream_framing import WHOLE, reached, run_story

ASKED: Final = (b"GET / HTTP/1.1", b"host: x")
BEGINNING: Final = b"HTTP/1.1 200 OK\r\n"
FIELD: Final = b"x-more: %s\r\n" % (b"y" * 1000)
INTERIM: Final = b"HTTP/1.1 103 Early Hints\r\nlink: <%s>\r\n\r\n" % (b"z" * 1000)
LOOPS: Final = (asyncio.new_event_loop, uvloop.new_event_loop)


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize(
    ("beginning", "more"),
    [
        (BEGINNING, FIELD),
        (BEGINNING + b"x-endless: ", b"y" * 1000),
        (BEGINNING, b"y" * 1000),
        (b"", INTERIM),
        (INTERIM + BEGINNING, FIELD),
    ],
    ids=["fields", "a value", "a name", "interim answers", "fields behind an interim answer"],
)
def test_a_head_without_an_end_is_given_up(
    new_loop: Callable[[], asyncio.AbstractEventLoop], beginning: bytes, more: bytes
) -> None:
    async def story(listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        async with reached(listener) as (pool, connection, peer):
            peer.setblocking(False)
            asking = asyncio.create_task(connection.ask(ASKED, None))
            await asyncio.sleep(0)
            await loop.sock_sendall(peer, beginning)
            for _ in range(2 * MAX_HEAD_BYTES // len(more)):
                await loop.sock_sendall(peer, more)
                await asyncio.sleep(0)
            with pytest.raises(Broken, match="too long"):
                async with asyncio.timeout(5):
                    await asking
            pool.give_back(connection)
            assert pool.kept() is None

    run_story(story, new_loop)


@pytest.mark.parametrize("kind", ["fields", "interim answers"])
def test_a_head_that_is_just_short_enough_is_an_answer(kind: str) -> None:
    async def story(listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        async with reached(listener) as (_, connection, peer):
            peer.setblocking(False)
            asking = asyncio.create_task(connection.ask(ASKED, None))
            await asyncio.sleep(0)
            head, body = WHOLE[:-2], WHOLE[-2:]
            room = MAX_HEAD_BYTES - len(head)
            lead = INTERIM if kind == "interim answers" else FIELD
            padding = lead * (room // len(lead))
            whole = (
                padding + head
                if lead is INTERIM
                else BEGINNING + padding + head.removeprefix(BEGINNING)
            )
            for at in range(0, len(whole), 999):
                await loop.sock_sendall(peer, whole[at : at + 999])
                await asyncio.sleep(0)
            answer = await asking
            await loop.sock_sendall(peer, body)
            assert (answer.status, await answer.read()) == (200, b"ok")

    run_story(story)
