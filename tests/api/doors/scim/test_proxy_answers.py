"""The proxy before a service that speaks bad HTTP:
a broken answer gets nowhere and breaks nothing.
"""

import asyncio
from typing import Any, cast

import msgspec
import pytest
import structlog.testing
from litestar.types import HTTPScope, Message

from api.doors.client_address import ClientAddresses
from api.doors.scim.proxy import Upstream
from api.settings import Settings
from tests.conftest import Run

IDENTITY = ((b"x-scim-team-id", b"t"), (b"x-scim-token-id", b"k"), (b"x-scim-use-id", b"u"))

BROKEN = "The SCIM service behind this address broke off, or answered no HTTP."


async def answer_to(raw: bytes, **settings: Any) -> tuple[list[Message], bytes]:
    """What a client is sent when the upstream's bytes are `raw`, and what the upstream was sent."""
    asked = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    sent: list[Message] = []
    left = asyncio.Event()

    async def receive() -> Any:
        await left.wait()

    async def send(message: Message) -> None:
        sent.append(message)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    upstream = Upstream(
        Settings(scim_upstream_url=f"http://127.0.0.1:{port}", **settings), ClientAddresses()
    )
    found: dict[str, Any] = {
        "method": "GET",
        "path": "/scim/v2/Users",
        "raw_path": b"/scim/v2/Users",
        "query_string": b"",
        "headers": [(b"host", b"us"), (b"authorization", b"Bearer x")],
        "http_version": "1.1",
        "scheme": "http",
        "client": ("192.0.2.1", 1),
        "state": {"request_id": "r"},
    }
    async with server:
        await upstream.forward(cast("HTTPScope", found), receive, send, IDENTITY)
        await upstream.aclose()
    return sent, asked


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 99 Odd\r\n\r\n",
        b"HTTP/1.1 600 Odd\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Odd: a\x01b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX Odd: a\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"x" * 100_000 + b"\r\n\r\n",
        *(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + codings + b"\r\n\r\n2\r\nab\r\n0\r\n\r\n"
            for codings in (
                b"gzip, chunked",
                b"gzip,chunked",
                b"gzip\r\nTransfer-Encoding: chunked",
                b"identity, chunked",
            )
        ),
    ],
)
def test_what_is_no_answer_is_502(run: Run, raw: bytes) -> None:
    """A4 too: a transfer coding that nobody asked for."""

    async def story() -> None:
        with structlog.testing.capture_logs() as logged:
            (start, body), _ = await answer_to(raw)
        assert start["type"] == "http.response.start"
        assert start["status"] == 502
        assert body["type"] == "http.response.body"
        told = msgspec.json.decode(body["body"])
        assert told["status"] == "502"
        assert told["detail"] == BROKEN, "it was reached, and may have done what it was asked"
        (line,) = logged
        assert line["event"] == "upstream.failed"
        assert line["reason"]
        assert line["request_id"] == "r", "the id that the client has"
        assert not line["is_answer_begun"]

    run(story())


def test_an_answer_that_is_broken_off_is_logged(run: Run) -> None:
    async def story() -> None:
        with structlog.testing.capture_logs() as logged:
            await answer_to(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
        (line,) = logged
        assert line["event"] == "upstream.failed"
        assert line["reason"] == "the upstream hung up"
        assert line["is_answer_begun"]

    run(story())


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 500])
def test_a_401_of_the_upstreams_is_logged(run: Run, status: int) -> None:
    """The provider is told that its good token is bad, and nothing of ours has said so."""

    async def story() -> None:
        with structlog.testing.capture_logs() as logged:
            (start, _), _ = await answer_to(b"HTTP/1.1 %d\r\nContent-Length: 0\r\n\r\n" % status)
        assert start["type"] == "http.response.start"
        assert start["status"] == status
        told = {"event": "upstream.unauthorized", "log_level": "warning", "request_id": "r"}
        assert logged == ([told] if status == 401 else [])

    run(story())


@pytest.mark.parametrize(
    ("location", "passed"),
    [
        ("/Users/1?a=/Users/", "http://us/scim/v2/Users/1?a=/Users/"),
        ("/", "http://us/scim/v2/"),
        ("//evil.example/x", "//evil.example/x"),
        ("Users/1", "http://us/scim/v2/Users/1"),
        ("?a=b", "http://us/scim/v2/Users?a=b"),
        ("", ""),
        ("https://scim.example.com/scim/v2/Users/1", "https://scim.example.com/scim/v2/Users/1"),
    ],
)
def test_below_a_root_every_path_is_the_upstreams_own(run: Run, location: str, passed: str) -> None:
    async def story() -> None:
        raw = f"HTTP/1.1 201 Created\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        (start, *_), _ = await answer_to(raw)
        assert start["type"] == "http.response.start"
        assert dict(start["headers"])[b"location"] == passed.encode()

    run(story())


def test_the_authorization_is_handed_on_where_the_settings_say_so(run: Run) -> None:
    async def story() -> None:
        raw = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        _, asked = await answer_to(raw)
        assert b"authorization" not in asked.lower()
        _, asked = await answer_to(raw, forward_authorization=True)
        assert b"authorization: Bearer x\r\n" in asked

    run(story())


def test_an_answer_of_http_1_0_ends_with_its_connection(run: Run) -> None:
    async def story() -> None:
        (start, *bodies), _ = await answer_to(
            b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nwhole"
        )
        assert start["type"] == "http.response.start"
        assert b"content-length" not in dict(start["headers"])
        assert b"".join(cast("Any", body)["body"] for body in bodies) == b"whole"
        assert not cast("Any", bodies[-1])["more_body"]

    run(story())
