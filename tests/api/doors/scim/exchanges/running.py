"""Run a script of an exchange through the proxy, and write down what the client gets."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any, Final, NamedTuple, cast

import structlog.testing
from litestar.types import HTTPScope, Message

from api.doors.client_address import ClientAddresses
from api.doors.scim.pool import KEEP_ALIVE_S
from api.doors.scim.proxy import Upstream
from api.http.problems import BROKEN_OFF
from api.settings import Settings
from tests.api.doors.scim.exchanges.model import Outcome
from tests.api.doors.scim.exchanges.script import (
    BIG,
    HEAD_S,
    IDLE_S,
    NEVER,
    SENDS_AFTER_S,
    Asks,
    Says,
)
from tests.api.http.hasty_loop import HastyLoop

IDENTITY: Final = ((b"x-scim-team-id", b"t"), (b"x-scim-token-id", b"k"), (b"x-scim-use-id", b"u"))
SURPLUS: Final = b"HTTP/1.1 299 Surplus\r\ncontent-length: 0\r\n\r\n"
THEN_AFTER_S: Final = 2
"""Whatever the upstream does after its answer has happened, and an idle connection is still kept.
"""


class PairedLoop(HastyLoop):
    """Whoever connects gets one end of a pair of sockets, and `accept` the other one: what is
    written is there at once, however busy the machine is.
    """

    accept: Callable[[socket.socket], None]

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    async def create_connection(self, factory: Any, *_: Any, **__: Any) -> Any:  # type: ignore[override]
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.accept(theirs)
        return await super().create_connection(factory, sock=ours)


PAYLOAD: Final = bytes(number % 251 for number in range(5 * BIG))
"""Of a body, whichever way it goes: no byte of it has another one's place unseen."""


def wire(says: Says, *, is_head: bool) -> tuple[dict[int, bytes], int | None]:
    """What the upstream says, by the second; and when it hangs up."""
    status = b"204 No Content" if says.framing == "none" else b"200 OK"
    length = says.length + (0 if says.ends == "whole" else 7)
    framing = {
        "length": b"content-length: %d\r\n" % length,
        "chunked": b"transfer-encoding: chunked\r\n",
    }.get(says.framing, b"")
    head = b"HTTP/1.1 %b\r\nx-name: first\r\n%b\r\n" % (status, framing)
    said: dict[int, bytes] = {}

    def say(at: int, data: bytes) -> None:
        said[at] = said.get(at, b"") + data

    parts = len(says.head)
    for number, at in enumerate(accumulate(says.head)):
        part = head[len(head) * number // parts : len(head) * (number + 1) // parts]
        if says.has_head or number < parts - 1:
            say(at, part)
    if not says.has_head:
        return said, None if says.ends == "silent" else says.begins_at
    whole_at = says.begins_at
    if not is_head:
        position = 0
        for at, size in says.arrivals:
            data = PAYLOAD[position : position + size]
            position += size
            say(at, b"%x\r\n%b\r\n" % (size, data) if says.framing == "chunked" else data)
        if says.ends != "whole":
            return said, None if says.ends == "silent" else says.ends_at
        whole_at = says.ends_at
        say(whole_at, b"0\r\n\r\n" if says.framing == "chunked" else b"")
        if says.framing == "end of connection":
            return said, whole_at
    after_s = 1 if says.afterwards.endswith("later") else 0
    if says.afterwards.startswith("says more"):
        say(whole_at + after_s, SURPLUS)
    return said, whole_at + after_s if says.afterwards.startswith("closes") else None


class Line:
    """The upstream's end of one connection. received: what came over it. is_ended: by either side.

    The first line answers by the script, and then, as all others do at once, the second request.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._may_read = asyncio.Event()
        self.received = bytearray()
        self.is_ended = False
        self.serving: asyncio.Task[None] | None = None

    async def follow(self, says: Says, said: dict[int, bytes], hangs_up_at: int | None) -> None:
        read_at = says.is_read_at
        loop = asyncio.get_running_loop()
        self.received += await loop.sock_recv(self._end, 1)
        reading = asyncio.create_task(self.answer_second())
        if read_at < NEVER:
            loop.call_at(read_at, self._may_read.set)
        with suppress(ConnectionError):
            for at in sorted({*said, *filter(None, [hangs_up_at])}):
                await asyncio.sleep(at - loop.time())
                await loop.sock_sendall(self._end, said.get(at, b""))
                if at == hangs_up_at:
                    reading.cancel()
                    await asyncio.wait([reading])
                    if read_at < NEVER:  # else what was not read makes it a reset
                        self._take_in()
                    self._end.close()
                    self.is_ended = True
                    return
        await reading

    async def answer_second(self) -> None:
        loop, is_answered = asyncio.get_running_loop(), False
        await self._may_read.wait()
        with suppress(ConnectionError):
            while data := await loop.sock_recv(self._end, BIG):
                self.received += data
                if not is_answered and b"x-name: second" in self.received:
                    is_answered = True
                    await loop.sock_sendall(self._end, b"HTTP/1.1 204 No Content\r\n\r\n")
        self._end.close()
        self.is_ended = True

    def _take_in(self) -> None:
        with suppress(BlockingIOError):
            while data := self._end.recv(BIG):
                self.received += data

    def read(self) -> None:
        self._may_read.set()


class Caller:
    """The client of one request. position: in its body, of what it sent."""

    def __init__(self, asks: Asks, name: bytes) -> None:
        self._asks = asks
        self._pieces = deque(asks.pieces or [(0, 0)])
        self._has_body = asks.pieces is not None
        self.position = 0
        self._taken = 0
        self._is_whole = False
        self.messages: list[Any] = []
        headers = [(b"host", b"us"), (b"x-name", name)]
        if self._has_body and asks.announced is None:
            headers.insert(0, (b"transfer-encoding", b"chunked"))
        elif asks.announced is not None:
            headers.insert(0, (b"content-length", b"%d" % asks.announced))
        self.scope: dict[str, Any] = {
            "method": asks.method,
            "path": "/scim/v2/Users",
            "raw_path": b"/scim/v2/Users",
            "query_string": b"",
            "headers": headers,
            "http_version": "1.1",
            "scheme": "http",
            "client": None,
            "state": {"request_id": "r"},
        }

    async def receive(self) -> Any:
        loop = asyncio.get_running_loop()
        wait, size = self._pieces[0] if self._pieces else (NEVER, 0)
        after_s = wait + SENDS_AFTER_S if self._has_body else wait
        stays_s = max(self._asks.leaves_at - loop.time(), 0)
        if min(after_s, stays_s) == NEVER:
            await asyncio.Event().wait()
        await asyncio.sleep(min(after_s, stays_s))
        if stays_s < after_s:
            return {"type": "http.disconnect"}
        self._pieces.popleft()
        body = PAYLOAD[self.position : self.position + size]
        self.position += size
        return {"type": "http.request", "body": body, "more_body": bool(self._pieces)}

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.body":
            take_s = self._asks.take_s(self._taken)
            self._taken += 1
            await asyncio.sleep(take_s)
            self._is_whole = not message["more_body"]

    async def ask(self, upstream: Upstream) -> None:
        scope = cast("HTTPScope", self.scope)
        await upstream.forward(scope, self.receive, self.send, IDENTITY)

    @property
    def is_to_be_hung_up_on(self) -> bool:
        return bool(self.scope["state"].get(BROKEN_OFF))

    @property
    def is_answered_by_upstream(self) -> bool:
        return bool(self.messages) and (b"x-name", b"first") in self.messages[0]["headers"]

    def outcome(self) -> tuple[int | None, bytes, bool]:
        """Status, body, whether all of it was taken."""
        if not self.messages:
            return None, b"", False
        start, *bodies = self.messages
        body = b"".join(message["body"] for message in bodies)
        return start["status"], body, self._is_whole


class Run(NamedTuple):
    """outcome: what the client, the operator and the pool have of it. is_hung_up_on: by the
    upstream. body: the answer's. sent: of the request's body as it is framed, what the
    upstream got.
    """

    outcome: Outcome
    is_hung_up_on: bool
    body: bytes
    sent: bytes


def run(asks: Asks, says: Says) -> Run:
    """Two requests, one after the other: the one of the script, and one that finds out whether the
    connection of the first was kept.
    """
    faults: list[Any] = []
    lines: list[Line] = []
    said, hangs_up_at = wire(says, is_head=asks.method == "HEAD")

    def accept(end: socket.socket) -> None:
        line = Line(end)
        if lines:
            line.read()
            following = line.answer_second()
        else:
            following = line.follow(says, said, hangs_up_at)
        line.serving = asyncio.create_task(following)
        lines.append(line)

    async def story() -> Run:
        loop = cast("PairedLoop", asyncio.get_running_loop())
        loop.accept = accept
        loop.set_exception_handler(lambda _, context: faults.append(context))
        upstream, first = proxy(), Caller(asks, b"first")
        with structlog.testing.capture_logs() as told:
            await first.ask(upstream)
        at = loop.time()
        await asyncio.sleep(THEN_AFTER_S / 2)
        if says.ends == "whole":  # however long the client took it in
            lines[0].read()
        await asyncio.sleep(THEN_AFTER_S / 2)
        second = Caller(Asks("GET", None, None, (), NEVER), b"second")
        await second.ask(upstream)
        assert second.outcome() == (204, b"", True)
        is_kept = len(lines) == 1
        await upstreams_end(lines)
        await upstream.aclose()
        status, body, is_whole = first.outcome()
        assert first.is_to_be_hung_up_on == assert_told(told, is_whole=is_whole)
        sent = bytes(lines[0].received).partition(b"\r\n\r\n")[2].partition(b"GET ")[0]
        outcome = Outcome(
            at=at,
            status=status,
            length=len(body) if first.is_answered_by_upstream else 0,
            is_whole=is_whole,
            told="; ".join(record["reason"] for record in told) or None,
            is_kept=is_kept,
            is_body_sent=sent == framed(asks) and asks.announced in {None, len(sent)},
        )
        return Run(outcome, hangs_up_at is not None, body, sent)

    with asyncio.Runner(loop_factory=PairedLoop) as runner:
        found = runner.run(story())
    assert faults == []
    return found


def assert_told(told: Sequence[Mapping[str, Any]], *, is_whole: bool) -> bool:
    """An operator hears of failures alone, and whether the client had seen some of the answer:
    then the server in front hangs up on it, which is returned.
    """
    for record in told:
        assert (record["event"], record["log_level"]) == ("upstream.failed", "warning")
        assert record["is_answer_begun"] == (not is_whole)
    return not is_whole


def proxy() -> Upstream:
    return Upstream(
        Settings(
            scim_upstream_url="http://upstream.example",
            upstream_head_timeout_s=HEAD_S,
            upstream_idle_timeout_s=IDLE_S,
        ),
        ClientAddresses(),
    )


async def upstreams_end(lines: list[Line]) -> None:
    """Nobody asks any more: each connection is to be hung up in its time, and nothing goes on."""
    for line in lines:
        line.read()
    await asyncio.sleep(KEEP_ALIVE_S + 1)
    assert all(line.is_ended for line in lines), "a connection is left open"
    for line in lines:
        assert line.serving is not None
        line.serving.cancel()
        await asyncio.wait([line.serving])
    assert asyncio.all_tasks() == {asyncio.current_task()}, "something goes on"


def framed(asks: Asks) -> bytes:
    """The request's body as it goes to the upstream."""
    position, whole = 0, b""
    for _, size in asks.pieces or ():
        piece = PAYLOAD[position : position + size]
        position += size
        whole += (
            piece if asks.announced is not None or not piece else b"%x\r\n%b\r\n" % (size, piece)
        )
    if asks.pieces is not None and asks.announced is None:
        whole += b"0\r\n\r\n"
    return whole
