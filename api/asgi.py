"""Answering a raw ASGI request in one go."""

from collections.abc import Mapping, Sequence
from typing import Final

from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, HTTPScope, Send

_ALLOWED: Final = ((b"content-length", b"0"), (b"cache-control", b"no-store"))
_EMPTY: Final[HTTPResponseBodyEvent] = {"type": "http.response.body", "body": b"", "more_body": False}


async def allow(send: Send, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Answer exactly 200 with an empty body: what every gateway takes for a yes."""
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": 200,
        "headers": [*_ALLOWED, *headers],
    }
    await send(start)
    await send(_EMPTY)


async def respond(
    send: Send, scope: HTTPScope, *, status: int, media_type: str, body: bytes, headers: Mapping[str, str]
) -> None:
    """Send one whole response that no cache may keep. A HEAD gets the headers alone."""
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (b"content-type", media_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
        ],
    }
    end: HTTPResponseBodyEvent = {
        "type": "http.response.body",
        "body": b"" if scope["method"] == "HEAD" else body,
        "more_body": False,
    }
    await send(start)
    await send(end)
