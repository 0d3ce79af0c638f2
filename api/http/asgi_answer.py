"""Send a whole answer to a raw ASGI request, with its request id."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, HTTPScope, Send

NO_STORE: Final = (b"cache-control", b"no-store")
_ALLOWED: Final = ((b"content-length", b"0"), NO_STORE)
_EMPTY: Final[HTTPResponseBodyEvent] = {
    "type": "http.response.body",
    "body": b"",
    "more_body": False,
}


def stamp(scope: HTTPScope) -> tuple[bytes, bytes]:
    """The id that the edge gave the request, as a header of its answer."""
    return (b"x-request-id", scope["state"]["request_id"].encode())


def stamped(scope: HTTPScope, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """An application's headers with the request's id; no cache keeps what they do not allow it to.

    headers: their names in any case.
    """
    found = [*headers, stamp(scope)]
    if not any(name.lower() == NO_STORE[0] for name, _ in found):
        found.append(NO_STORE)
    return found


async def allow(send: Send, scope: HTTPScope, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Answer exactly 200 with an empty body: what every gateway takes for a yes."""
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": 200,
        "headers": [*_ALLOWED, *headers, stamp(scope)],
    }
    await send(start)
    await send(_EMPTY)


@lru_cache(maxsize=256)
def _field(name: str, value: str) -> tuple[bytes, bytes]:
    """A header as ASGI has it. Refusals come in floods, and are few."""
    return name.lower().encode(), value.encode()


async def respond(
    send: Send,
    scope: HTTPScope,
    *,
    status: int,
    media_type: str,
    body: bytes,
    headers: Mapping[str, str],
) -> None:
    """Send one whole response that no cache may keep. A HEAD gets the headers alone."""
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": status,
        "headers": [
            _field("content-type", media_type),
            (b"content-length", b"%d" % len(body)),
            NO_STORE,
            *[_field(name, value) for name, value in headers.items()],
            stamp(scope),
        ],
    }
    end: HTTPResponseBodyEvent = {
        "type": "http.response.body",
        "body": b"" if scope["method"] == "HEAD" else body,
        "more_body": False,
    }
    await send(start)
    await send(end)
