"""A page of the console as it was answered once, from a server that does nothing but send it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import httpx

from tests.console.browsing import Visitor
from tests.served import served

_ASSET: Final = re.compile(r'(?:href|src)="(/console/[^"?]*\.(?:css|js|svg)[^"]*)"')


@contextmanager
def static_copy(page: httpx.Response, visitor: Visitor) -> Iterator[str]:
    """The URL of the server, which has the page at its path, and what it loads."""
    assets = {path: visitor.see(path) for path in _ASSET.findall(page.text)}
    sending = _sending({page.url.path: page} | assets)
    with served(ThreadingHTTPServer(("127.0.0.1", 0), sending)) as url:
        yield url


def _sending(answers: Mapping[str, httpx.Response]) -> type[BaseHTTPRequestHandler]:
    class Sending(BaseHTTPRequestHandler):
        """Keeps its connections, as the service does."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer = answers.get(self.path)
            content = b"" if answer is None else answer.content
            self.send_response(404 if answer is None else 200)
            for name in ("content-type", "cache-control"):
                if answer is not None and name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Sending
