"""A1 at the upstream's side: it gets what the client sent, and no answer goes to another request.

Whatever the server in front of the proxy thinks of a body's length: here bodies that are shorter or
longer than their head says come, too.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st
from litestar.types import HTTPScope, Message

from api.doors.client_address import ClientAddresses
from api.doors.scim import connection as connections
from api.doors.scim.client import Client
from api.doors.scim.connection import Broken, Connection
from api.doors.scim.framing import Framing, Unforwardable, framing_of
from api.doors.scim.header_sections import METHODS
from api.doors.scim.pool import Origin, Pool
from api.doors.scim.proxy import Upstream
from api.settings import Settings
from tests.api.doors.scim.raw_upstream import BEHAVIOURS, RawUpstream, raw_upstream

IDENTITY: Final = ((b"x-scim-team-id", b"t"), (b"x-scim-token-id", b"k"), (b"x-scim-use-id", b"u"))
SLOW_S: Final = 0.003
FORGED: Final = (
    b"POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\nX-Scim-Team-Id: other\r\nContent-Length: 0\r\n\r\n"
)


@dataclass(frozen=True)
class Request:
    """pieces: as the server in front hands them on. announced: None for chunked. is_slow: an
    answer at once is there before the last of them.
    """

    pieces: Sequence[bytes]
    announced: int | None
    behaviour: str
    method: str = "POST"
    is_slow: bool = False

    @property
    def is_true(self) -> bool:
        """Whether the body is as long as its head says;
        where that says nothing, none is looked at.
        """
        return not self.announced or self.announced == sum(map(len, self.pieces))

    @property
    def body(self) -> bytes:
        """What the upstream is to get."""
        whole = b"".join(self.pieces)
        return whole if self.announced is None else whole[: self.announced]

    @property
    def is_long_enough(self) -> bool:
        """Whether the upstream may see its end:
        what is too much is found out behind it, and stays here.
        """
        return self.announced is None or sum(map(len, self.pieces)) >= self.announced

    def headers(self, name: str) -> list[tuple[bytes, bytes]]:
        framing = (
            (b"transfer-encoding", b"chunked")
            if self.announced is None
            else (b"content-length", b"%d" % self.announced)
        )
        offer = [(b"connection", b"upgrade"), (b"upgrade", b"h2c"), (b"expect", b"100-continue")]
        return [(b"host", b"us"), (b"x-name", name.encode()), framing, *offer]


PIECES: Final = st.lists(
    st.sampled_from([FORGED, b"x", b"0\r\n\r\n", b"y" * 3000]) | st.binary(min_size=1, max_size=60),
    max_size=4,
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    pieces = draw(PIECES)
    length = sum(map(len, pieces))
    announced = draw(
        st.sampled_from([None, length, length, length, length + 7, max(length - 3, 0)])
    )
    return Request(
        pieces,
        announced,
        draw(st.sampled_from(BEHAVIOURS)),
        draw(st.sampled_from(["POST", "PUT"])),
        draw(st.sampled_from([False, False, False, True])),
    )


async def send_all(
    upstream: Upstream, raw: RawUpstream, asked: Sequence[Request]
) -> list[list[Message]]:
    """Each request after the one before, through one process's pool; what each client was sent."""
    answers = []
    for number, request in enumerate(asked):
        name = f"request-{number}"
        raw.behave[name] = request.behaviour
        pause_s = SLOW_S if request.is_slow else 0
        answers.append(await send(upstream, request, name, pause_s=pause_s))
        if request.behaviour.endswith("later"):
            # had the next been sent before, nobody could tell them apart
            await asyncio.sleep(0.05)
    return answers


async def send(
    upstream: Upstream, request: Request, name: str, *, pause_s: float = 0
) -> list[Message]:
    pieces = list(request.pieces) or [b""]
    sent: list[Message] = []
    is_over = asyncio.Event()

    async def receive() -> Any:
        if not pieces:
            await is_over.wait()
            return {"type": "http.disconnect"}
        await asyncio.sleep(pause_s)
        body = pieces.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(pieces)}

    async def take(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "method": request.method,
        "path": "/scim/v2/Users",
        "raw_path": b"/scim/v2/Users",
        "query_string": b"",
        "headers": request.headers(name),
        "http_version": "1.1",
        "scheme": "http",
        "client": ("192.0.2.1", 1),
        "state": {"request_id": "r"},
    }
    async with asyncio.timeout(5):
        await upstream.forward(cast("HTTPScope", scope), receive, take, IDENTITY)
    is_over.set()
    return sent


async def story(asked: Sequence[Request]) -> None:
    async with raw_upstream() as raw:
        upstream = Upstream(
            Settings(scim_upstream_url=f"http://127.0.0.1:{raw.port}"), ClientAddresses()
        )
        answers = await send_all(upstream, raw, asked)
        await upstream.aclose()
    assert raw.faults == []
    for heard in raw.heard:
        request = asked[int(heard.headers["x-name"].removeprefix("request-"))]
        assert request.is_long_enough, "a body that is shorter than announced came to an end"
        assert heard.body == request.body
        assert heard.headers["x-scim-team-id"] == "t"
    for number, (request, messages) in enumerate(zip(asked, answers, strict=True)):
        name = f"request-{number}".encode()
        is_stale = number > 0 and asked[number - 1].behaviour in HANG_UP_UNTOLD
        assert_own_answer(request, name, messages, is_stale=is_stale)


HANG_UP_UNTOLD: Final = {"reads and closes", "answers at once and closes", "says too much later"}
"""What follows may be sent just when the connection goes:
not what is safe to send twice, so it is a 502.
"""


def assert_own_answer(
    request: Request, name: bytes, messages: Sequence[Any], *, is_stale: bool
) -> None:
    start, *bodies = messages
    if start["status"] == 200:
        assert (dict(start["headers"]).get(b"x-name", name)) == name
        is_whole = bool(bodies) and not bodies[-1]["more_body"]
        assert not is_whole or b"".join(body["body"] for body in bodies) == name
        assert is_whole or request.behaviour == "breaks off"
    else:
        assert start["status"] in {400, 502}
        is_hung_up_on = request.behaviour in {"says nothing", "answers at once and closes"}
        assert not request.is_true or is_hung_up_on or is_stale


@settings(max_examples=50, deadline=None)
@example(asked=[Request([FORGED, b"x", b"y"], len(FORGED) + 1, "reads", "POST")])
@example(asked=[Request([FORGED] * 3, 3 * len(FORGED), "answers at once", is_slow=True)] * 3)
@example(asked=[Request([FORGED] * 3, None, "answers at once", is_slow=True)] * 3)
@given(asked=st.lists(requests(), min_size=1, max_size=5))
def test_the_upstream_gets_what_was_sent_and_every_answer_is_to_its_own_request(
    asked: list[Request],
) -> None:
    asyncio.run(story(asked))


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(asked=st.lists(requests(), min_size=1, max_size=5))
def test_so_it_is_in_many_stories(asked: list[Request]) -> None:
    asyncio.run(story(asked))


def _always_kept(self: connections.Connection) -> bool:
    return self._transport is not None and not self._transport.is_closing()


async def _uncounted(self: Any, framing: Any) -> Any:
    counted = Framing("chunked") if framing.kind == "length" else framing
    async for piece in COUNTED(self, counted):
        yield piece


COUNTED: Final = Client.body
FIRST: Final = Request([FORGED], len(FORGED), "answers at once")
THEN: Final = Request([b"x"], 1, "reads")
PLANTED: Final[Sequence[tuple[Callable[[pytest.MonkeyPatch], None], Sequence[Request]]]] = (
    (
        lambda patch: patch.setattr(connections.Connection, "is_usable", property(_always_kept)),
        (Request([b"x"], 1, "says too much"), THEN, THEN),
    ),
    (
        lambda patch: patch.setattr(Client, "body", _uncounted),
        (Request([b"x"], 60, "answers at once"), THEN, THEN),
    ),
)


@pytest.mark.parametrize(("plant", "asked"), PLANTED)
def test_a_connection_that_is_kept_too_long_is_found(
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    asked: Sequence[Request],
) -> None:
    asyncio.run(story(asked))
    plant(monkeypatch)
    with pytest.raises((AssertionError, TimeoutError, KeyError)):
        asyncio.run(story(asked))


@asynccontextmanager
async def reached(listener: socket.socket) -> AsyncIterator[tuple[Pool, Connection, socket.socket]]:
    """A pool, a connection of it to the listener, and the other end."""
    pool = Pool(Origin(False, *listener.getsockname()[:2]), connect_timeout_s=1)
    connection = await pool.fresh()
    peer, _ = listener.accept()
    with peer:
        yield pool, connection, peer
        connection.close()
        await asyncio.sleep(0.01)


def run_story(
    story: Callable[[socket.socket], Coroutine[Any, Any, None]],
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """With a socket that listens, for `reached`."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        asyncio.Runner(loop_factory=new_loop) as runner,
    ):
        runner.run(story(listener))


RESETS: Final = struct.pack("ii", 1, 0)
WHOLE: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
TRAILED: Final = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"2\r\nok\r\n0\r\nset-cookie: forged\r\n\r\n"
)


@pytest.mark.parametrize(
    ("method", "answer", "is_kept"),
    [
        ("GET", WHOLE, True),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nlink: </>\r\n\r\n" + WHOLE, True),
        ("GET", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True),
        ("GET", TRAILED, True),
        ("GET", WHOLE.replace(b"\r\n", b"\r\nconnection: close\r\n", 1), False),
        ("GET", WHOLE.replace(b"1.1", b"1.0", 1), False),
        ("GET", WHOLE + WHOLE, False),
        ("GET", WHOLE + b"x", False),
        ("HEAD", WHOLE.removesuffix(b"ok"), False),
        ("HEAD", WHOLE, False),
    ],
)
def test_a_connection_is_kept_after_an_exchange_that_surely_came_to_its_end(
    method: str, answer: bytes, is_kept: bool
) -> None:
    """What was not asked for, a body behind the answer to HEAD for instance, answers nobody."""

    async def story(listener: socket.socket) -> None:
        async with reached(listener) as (pool, connection, peer):
            head = [f"{method} / HTTP/1.1".encode(), b"host: x"]
            asking = asyncio.create_task(connection.ask(head, None, is_head=method == "HEAD"))
            await asyncio.sleep(0)
            peer.sendall(answer)
            begun = await asking
            assert {name for name, _ in begun.headers} <= NAMES, (
                "of no interim answer, and no trailer"
            )
            while not begun.is_read:
                await begun.read()
            await asyncio.sleep(0.001)
            pool.give_back(connection)
            assert (pool.kept() is connection) == is_kept

    run_story(story)


NAMES: Final = {b"content-length", b"transfer-encoding", b"connection"}


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize(
    ("does", "is_kept"),
    [
        (lambda _: None, True),
        (lambda peer: peer.sendall(b"HTTP/1.1 299 Surplus\r\ncontent-length: 0\r\n\r\n"), False),
        (lambda peer: peer.close(), False),
    ],
)
def test_what_has_come_and_was_not_read_yet_ends_a_kept_connection(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    does: Callable[[socket.socket], None],
    is_kept: bool,
) -> None:
    """A busy worker sends the next request before its loop looks at the connection."""

    async def story(listener: socket.socket) -> None:
        async with reached(listener) as (pool, connection, peer):
            asking = asyncio.create_task(connection.ask([b"GET / HTTP/1.1", b"host: x"], None))
            await asyncio.sleep(0.01)
            peer.recv(1000)
            peer.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            await (await asking).read()
            pool.give_back(connection)
            does(peer)
            assert pool.kept() is (connection if is_kept else None)
            assert connection.is_usable == is_kept, "what is not kept is hung up"

    run_story(story, new_loop)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize(
    "does",
    [
        lambda peer: peer.close(),
        lambda peer: (peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS), peer.close()),
        lambda peer: peer.sendall(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"),
    ],
    ids=["closes", "resets", "speaks first"],
)
def test_an_upstream_that_hangs_up_before_it_is_asked_has_not_answered(
    new_loop: Callable[[], asyncio.AbstractEventLoop], does: Callable[[socket.socket], object]
) -> None:
    async def story(listener: socket.socket) -> None:
        async with reached(listener) as (_, connection, peer):
            does(peer)
            while connection.is_usable:
                await asyncio.sleep(0.001)
            with pytest.raises(Broken, match="hung up"):
                await connection.ask([b"GET / HTTP/1.1", b"host: x"], None)

    run_story(story, new_loop)


TOO_LONG: Final = b"x-long: %s\r\n" % (b"y" * (connections.MAX_HEAD_BYTES + 1))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n%b\r\nno HTTP" % TOO_LONG, "too long"),
        (b"no HTTP\r\n%b" % TOO_LONG, "not HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", None),
    ],
)
def test_what_is_no_answer_is_told_by_what_was_wrong_first(
    answer: bytes, reason: str | None
) -> None:
    """And to nobody but whoever asked: what the event loop catches is a traceback in the log."""
    caught: list[object] = []

    async def story(listener: socket.socket) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context))
        async with reached(listener) as (pool, connection, peer):
            asking = asyncio.create_task(connection.ask([b"GET / HTTP/1.1", b"host: x"], None))
            await asyncio.sleep(0)
            await asyncio.get_running_loop().run_in_executor(None, peer.sendall, answer)
            if reason is None:
                assert (await asking).status == 101
            else:
                with pytest.raises(Broken, match=reason):
                    await asking
            pool.give_back(connection)
            assert pool.kept() is None

    run_story(story)
    assert caught == []


@pytest.mark.parametrize(
    ("headers", "framing"),
    [
        ([], Framing("none")),
        ([(b"content-length", b"0")], Framing("none")),
        ([(b"content-length", b"5")], Framing("length", 5)),
        ([(b"transfer-encoding", b"chunked")], Framing("chunked")),
        ([(b"transfer-encoding", b" Chunked ")], Framing("chunked")),
        ([(b"transfer-encoding", b"gzip")], 501),
        ([(b"transfer-encoding", b"gzip, chunked")], 501),
        ([(b"transfer-encoding", b"chunked, chunked")], 501),
        ([(b"transfer-encoding", b"chunked")] * 2, 501),
        ([(b"transfer-encoding", b"chunked"), (b"content-length", b"5")], 400),
        ([(b"content-length", b"5")] * 2, 400),
        *(
            ([(b"content-length", length)], 400)
            for length in (b"", b"-1", b"+5", b"5, 5", b"0x5", b"5_0", "\u0665".encode())
        ),
    ],
)
def test_a_body_is_framed_in_one_way_or_the_request_refused(
    headers: list[tuple[bytes, bytes]], framing: Framing | int
) -> None:
    """Whatever the server in front made of it."""
    scope = cast("HTTPScope", {"headers": headers})
    if isinstance(framing, Framing):
        assert framing_of(scope) == framing
    else:
        with pytest.raises(Unforwardable) as refused:
            framing_of(scope)
        assert refused.value.status == framing


@pytest.mark.parametrize("is_begun", [False, True])
@pytest.mark.parametrize("body", [b"", b"x"])
@pytest.mark.parametrize("method", METHODS)
def test_only_what_is_safe_to_ask_twice_is(method: str, body: bytes, is_begun: bool) -> None:
    """An upstream hears a request over a connection that it kept, and hangs up."""
    heard: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError), closing(writer):
            for is_last in (False, True):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                heard.append(head.partition("x-name: ")[2].partition("\r\n")[0])
                if not is_last:
                    await reader.readexactly(len(body) if heard[-1] == "then" else 0)
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                elif is_begun:
                    writer.write(b"HTTP/1.1 20")

    async def story() -> int:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            upstream = Upstream(
                Settings(scim_upstream_url=f"http://127.0.0.1:{port}"), ClientAddresses()
            )
            await send(upstream, Request([], 0, "", "GET"), "first")
            then: Any = await send(upstream, Request([body], len(body), "", method), "then")
            await upstream.aclose()
            await asyncio.sleep(0)
        return int(then[0]["status"])

    is_asked_twice = method in {"GET", "HEAD", "OPTIONS"} and not body and not is_begun
    assert asyncio.run(story()) == (204 if is_asked_twice else 502)
    assert heard == ["first", *["then"] * (2 if is_asked_twice else 1)]
