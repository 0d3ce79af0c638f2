"""A stand-in for the ledger where the gateway is on trial:
its answer is what the bearer token says.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Final

from tests.gateways.echo import METHODS, serving

IDENTITY: Final = {"X-Scim-Team-Id": "team", "X-Scim-Token-Id": "token", "X-Scim-Use-Id": "use"}
CHALLENGE: Final = 'Bearer realm="scim", error="insufficient_scope"'
SCRIPT: Final[dict[str, tuple[int, dict[str, str]]]] = {
    "good": (200, IDENTITY),
    "nameless": (200, {}),
    "blank": (200, dict.fromkeys(IDENTITY, "")),
    "forbidden": (403, {"WWW-Authenticate": CHALLENGE}),
    "limited": (429, {"Retry-After": "7"}),
    "unavailable": (503, {"Retry-After": "3"}),
    "no-content": (204, IDENTITY),
    "redirect": (302, {"Location": "/elsewhere"}),
    "lost": (404, {}),
    "broken": (500, {}),
}


@contextmanager
def scripted_ledger(*, host: str = "127.0.0.1") -> Iterator[str]:
    """Yields its URL; without a word of the script it answers 401."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            word = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            status, headers = SCRIPT.get(word, (401, {"WWW-Authenticate": 'Bearer realm="scim"'}))
            body = b"" if status < 400 else error(status)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if body:
                self.send_header("Content-Type", "application/scim+json")
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    for method in METHODS:
        setattr(Handler, f"do_{method}", Handler.answer)
    with serving(Handler, host=host) as url:
        yield url


def error(status: int) -> bytes:
    """A SCIM error (RFC 7644 §3.12)."""
    schema = "urn:ietf:params:scim:api:messages:2.0:Error"
    return json.dumps(
        {"schemas": [schema], "status": str(status), "detail": "As the script says."}
    ).encode()
