"""The backend behind every front: it answers with what reached it, and remembers it."""

import json
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from wsgiref.types import StartResponse, WSGIEnvironment

from tests.served import served

_SIGN: Final = re.compile("[^a-z0-9]")
METHODS: Final = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Reached:
    """A request as the backend saw it.

    target: path and query, as sent. headers: names as received.
    """

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: str

    def folded(self, prefix: str) -> list[tuple[str, str]]:
        """Headers as a backend sees them that takes every sign for the same, sorted."""
        names = ((_SIGN.sub("-", name.lower()), value) for name, value in self.headers)
        return sorted((name, value) for name, value in names if name.startswith(prefix))

    def as_json(self) -> bytes:
        """The answer's body."""
        return json.dumps(asdict(self)).encode()


class Recorder:
    """What reached the backend."""

    def __init__(self) -> None:
        self._reached: list[Reached] = []

    def add(self, reached: Reached) -> None:
        """Remember one."""
        self._reached.append(reached)

    def to(self, path: str) -> list[Reached]:
        """Requests to a path, oldest first."""
        return [reached for reached in self._reached if reached.target.partition("?")[0] == path]


@contextmanager
def echo_backend(recorder: Recorder, *, host: str = "127.0.0.1") -> Iterator[str]:
    """The backend of a gateway, as an HTTP service; yields its URL.

    It agrees to every tunnel and every change of protocol, and goes on in HTTP/1.1.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length).decode()
            reached = Reached(self.command, self.path, list(self.headers.items()), body)
            recorder.add(reached)
            if "Upgrade" in self.headers:
                self.send_response(101)
                self.send_header("Connection", "Upgrade")
                self.send_header("Upgrade", self.headers["Upgrade"])
                self.send_header("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reached.as_json())))
            self.end_headers()
            if self.command not in {"HEAD", "CONNECT"}:
                self.wfile.write(reached.as_json())

        def log_message(self, *_: object) -> None:
            pass

    for method in (*METHODS, "CONNECT"):
        setattr(Handler, f"do_{method}", Handler.answer)
    with serving(Handler, host=host) as url:
        yield url


def asgi_echo(recorder: Recorder) -> Callable[..., Awaitable[None]]:
    """The same as an ASGI application, for a middleware to stand in front of."""

    async def application(
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        body = b""
        is_more = True
        while is_more:
            message = await receive()
            body += message.get("body", b"")
            is_more = message.get("more_body", False)
        query = scope["query_string"].decode()
        target = scope["raw_path"].decode() + (f"?{query}" if query else "")
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        reached = Reached(scope["method"], target, headers, body.decode())
        recorder.add(reached)
        start = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(reached.as_json())),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": start})
        await send(
            {
                "type": "http.response.body",
                "body": b"" if reached.method == "HEAD" else reached.as_json(),
            }
        )

    return application


def wsgi_echo(recorder: Recorder) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """The same as a WSGI application."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
        target = environ["PATH_INFO"] + (
            f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        )
        headers = [
            (name.removeprefix("HTTP_"), value)
            for name, value in environ.items()
            if name.startswith("HTTP_") or name == "CONTENT_TYPE"
        ]
        reached = Reached(environ["REQUEST_METHOD"], target, headers, body)
        recorder.add(reached)
        length = str(len(reached.as_json()))
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", length)])
        return [b"" if reached.method == "HEAD" else reached.as_json()]

    return application


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], *, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve on a free port of a loopback address, from a thread; yields the URL."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        request_queue_size = 64

        def __init__(self) -> None:
            super().__init__((host, 0), handler)
            self.accepted: list[socket.socket] = []

        def get_request(self) -> tuple[socket.socket, Any]:
            connection, address = super().get_request()
            self.accepted.append(connection)
            return connection, address

        def handle_error(self, *_: object) -> None:
            """A client that went away is nobody's failure here."""

    server = Server()
    try:
        with served(server) as url:
            yield url
    finally:
        for connection in server.accepted:
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)
