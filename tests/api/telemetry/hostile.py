"""Requests of somebody who wants to be in a metric, a log line or a trace, as raw bytes."""

import socket
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

EVIL: Final = b"evil-e7c1"
"""In each of them, wherever there is room for it."""
SOURCE: Final = b"203.0.113.77"
NEVER_TOLD: Final = (EVIL.decode(), SOURCE.decode())
_TEAM: Final = str(UUID(int=0xE7C1)).encode()
_TARGETS: Final = (
    b"/%s",
    b"/%%00%%0a%%22%s",
    b"/scim/v2/Users/%s?filter=userName+eq+%%22%s%%22",
    b'/scim/v2/%s"}%%0a1',
    b"/gateway/forward?token=%s",
    b"/gateway/nginx/%s",
    b"/gateway/envoy/scim/v2/Users/%s?x=%s",
    b"/scim-token?team_id=" + _TEAM + b"&%s=%s",
    b"/verify/%s",
    b"//%s//..//metrics",
)


def requests(secret: str) -> Iterator[bytes]:
    """Whole requests, some of which are no HTTP. secret: of a good token."""
    presented = (b"Bearer " + secret.encode(), b"Bearer " + EVIL, b'Basic "' + EVIL)
    for number, target in enumerate(_TARGETS):
        filled = target % ((EVIL,) * target.count(b"%s"))
        yield b"\r\n".join(
            [
                (b"GET", b"POST", b"EVIL", b"OPTIONS")[number % 4] + b" " + filled + b" HTTP/1.1",
                b"Host: " + EVIL,
                b"Authorization: " + presented[number % 3],
                b'User-Agent: " ' + EVIL + b" \\n{}",
                b"X-Forwarded-For: " + SOURCE,
                b"X-Forwarded-Uri: /scim/v2/Users/" + EVIL,
                b"X-Forwarded-Method: " + EVIL,
                b"X-Request-Id: " + EVIL,
                b"Content-Length: " + str(len(EVIL)).encode(),
                b"",
                EVIL,
            ]
        )
    yield b"GET /" + EVIL + b"\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost: a\r\nHost: " + EVIL + b"\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost: a\r\n" + EVIL + b"\x00: " + EVIL + b"\r\n\r\n"
    yield b"GET /" + EVIL * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"


def send_all(url: str, secret: str) -> int:
    """Send each on a connection of its own, and wait for an answer; how many there were."""
    address = urlsplit(url)
    sent = 0
    for request in requests(secret):
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
            connection.sendall(request)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 ")
            sent += 1
    return sent
