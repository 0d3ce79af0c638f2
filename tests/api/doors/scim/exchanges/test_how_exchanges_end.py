"""How an exchange ends on the connection to the upstream: what is kept, and what is hung up."""

import asyncio
import socket
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.doors.client_address import ClientAddresses
from api.doors.scim.connection import MAX_HEAD_BYTES
from api.doors.scim.framing import Unforwardable
from api.doors.scim.pool import KEEP_ALIVE_S
from api.doors.scim.proxy import Upstream
from api.settings import Settings
from tests.api.doors.scim.test_upstream_framing import WHOLE, Request, reached, run_story, send

GET: Final = (b"GET / HTTP/1.1", b"host: x")
POST: Final = (b"POST / HTTP/1.1", b"host: x", b"transfer-encoding: chunked")
IN_TIME_S: Final = 5


@pytest.mark.parametrize("surplus", [WHOLE, WHOLE[:1], b"\r\n", b"\0"])
def test_what_comes_behind_an_answer_while_the_request_is_sent_ends_the_connection(
    surplus: bytes,
) -> None:
    """Its rest would be heard as the next answer."""

    async def story(listener: socket.socket) -> None:
        is_over = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            await is_over.wait()

        async with reached(listener) as (pool, connection, peer):
            asking = asyncio.create_task(connection.ask(POST, body(), framing="chunked"))
            await asyncio.sleep(0)
            peer.sendall(WHOLE)
            answer = await asking
            assert await answer.read() == b"ok"
            peer.sendall(surplus)
            while not connection.is_silent:
                await asyncio.sleep(0)
            is_over.set()
            assert connection._sending is not None
            await connection._sending
            pool.give_back(connection)
            assert pool.kept() is None

    run_story(story)


@given(
    st.integers(1, 3 * MAX_HEAD_BYTES),
    st.lists(st.integers(1, 3 * MAX_HEAD_BYTES), max_size=6),
    st.sampled_from(["length", "chunked", "end"]),
)
@example(2 * MAX_HEAD_BYTES, [], "length")
def test_a_body_may_come_with_its_head_and_in_any_pieces(
    length: int, cuts: list[int], framing: str
) -> None:
    """The limit is the head's; how much the event loop reads at once is chance."""
    body = (b"0123456789abcde" * (length // 15 + 1))[:length]
    framed = {
        "length": b"content-length: %d\r\n\r\n%b" % (length, body),
        "chunked": b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (length, body),
        "end": b"\r\n" + body,
    }
    said = b"HTTP/1.1 200 OK\r\n" + framed[framing]
    places = sorted({0, len(said), *(cut for cut in cuts if cut < len(said))})

    async def story(listener: socket.socket) -> None:
        async with reached(listener) as (pool, connection, _):
            asking = asyncio.create_task(connection.ask(GET, None))
            await asyncio.sleep(0)
            for start, end in pairwise(places):
                connection.data_received(said[start:end])
            if framing == "end":
                connection.eof_received()
            answer, came = await asking, b""
            while piece := await answer.read():
                came += piece
            assert (answer.status, came) == (200, body)
            pool.give_back(connection)
            assert (pool.kept() is connection) == (framing != "end")

    run_story(story)


def test_an_answer_to_a_request_that_came_to_no_end_does_not_look_whole() -> None:
    """Also where the upstream ends it without a fault before somebody reads on."""

    async def story(listener: socket.socket) -> None:
        is_wrong = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            await is_wrong.wait()
            raise Unforwardable(400, "It is not as long as it says.")

        async with reached(listener) as (_, connection, peer):
            asking = asyncio.create_task(connection.ask(POST, body(), framing="chunked"))
            await asyncio.sleep(0)
            peer.sendall(b"HTTP/1.1 200 OK\r\n\r\nsome")
            answer = await asking
            assert await answer.read() == b"some"
            is_wrong.set()
            assert connection._sending is not None
            await connection._sending
            connection.eof_received()
            with pytest.raises(Unforwardable):
                await answer.read()

    run_story(story)


@pytest.mark.parametrize("kept_before", [0, 1, 2])
def test_an_upstream_that_answers_no_http_is_hung_up_on(kept_before: int) -> None:
    """A connection that nobody has any more would be open for ever, on both sides."""

    async def story() -> None:
        ended: list[bytes] = []
        are_ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(kept_before):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(WHOLE)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"no HTTP\r\n\r\n")
            ended.append(await _rest(reader))
            are_ended.set()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            upstream = _upstream(server)
            seen = [await _status(upstream) for _ in range(kept_before + 1)]
            assert seen == [200] * kept_before + [502]
            async with asyncio.timeout(IN_TIME_S):
                await are_ended.wait()
        assert ended == [b""]

    asyncio.run(story())


def test_what_is_idle_is_hung_up_when_the_service_stops() -> None:
    async def story() -> None:
        are_ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(WHOLE)
            await _rest(reader)
            are_ended.set()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            upstream = _upstream(server)
            assert await _status(upstream) == 200
            await upstream.aclose()
            async with asyncio.timeout(KEEP_ALIVE_S / 2):
                await are_ended.wait()

    asyncio.run(story())


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:  # `close` aborts
        return b""


def _upstream(server: asyncio.Server) -> Upstream:
    port = server.sockets[0].getsockname()[1]
    settings = Settings(scim_upstream_url=f"http://127.0.0.1:{port}")
    return Upstream(settings, ClientAddresses())


async def _status(upstream: Upstream) -> int:
    sent = await send(upstream, Request([], 0, "", "GET"), "get")
    return int(sent[0]["status"])  # type: ignore[typeddict-item]
