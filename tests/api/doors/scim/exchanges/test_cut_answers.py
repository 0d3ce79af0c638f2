"""An answer that nothing frames but the end of its connection is whole if the upstream ended that:
not where the connection broke.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import closing
from typing import Final

import pytest
import uvloop

from api.doors.scim.connection import Broken
from tests.api.doors.scim.test_upstream_framing import reached, run_story

RESETS: Final = struct.pack("ii", 1, 0)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("is_reset", [False, True])
def test_what_only_the_connection_frames_is_whole_if_that_was_ended(
    new_loop: Callable[[], asyncio.AbstractEventLoop], is_reset: bool
) -> None:
    async def story(listener: socket.socket) -> None:
        async with reached(listener) as (pool, connection, peer):
            with closing(peer):
                asking = asyncio.create_task(connection.ask([b"GET / HTTP/1.1", b"host: x"], None))
                await asyncio.sleep(0)
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf")
                answer = await asking
                while await answer.read() != b"half":
                    pass
                if is_reset:
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
            if is_reset:
                with pytest.raises(Broken, match="cut off"):
                    await answer.read()
            else:
                assert await answer.read() == b""
            assert answer.is_read != is_reset
            pool.give_back(connection)
            assert pool.kept() is None

    run_story(story, new_loop)
