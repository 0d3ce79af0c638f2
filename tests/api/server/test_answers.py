"""What an answer is framed by, what a request is told that the application did not answer, and
which host one names.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import product
from typing import Any, ClassVar, Final

import pytest
import structlog
from litestar import Litestar, get
from litestar.response import Stream

from api.server.protocol import StrictHttpProtocol
from domain.errors import Unavailable
from tests.api.server.serving import (
    GOOD,
    connect,
    exchange,
    head,
    read_to_end,
    serving,
    statuses,
)
from tests.service import until

PIECES: Final = ((), (b"whole",), (b"a", b"", b"bc" * 70_000), (b"a\r\n", b"0\r\n\r\n", b"tail"))
CHUNKED: Final = (b"transfer-encoding", b"chunked")
SECRET: Final = "http://[:::::]/what was sent"


def answering(*pieces: bytes, fields: tuple[tuple[bytes, bytes], ...], status: int = 200) -> Any:
    """An application whose answer has these fields and pieces."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(fields)})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


def parts(answer: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """The fields of an answer, and all that stands behind them."""
    section, _, rest = answer.partition(b"\r\n\r\n")
    fields = [line.partition(b": ") for line in section.split(b"\r\n")[1:]]
    return {name.lower(): value for name, _, value in fields}, rest


def unchunked(rest: bytes) -> bytes:
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            assert rest == b"\r\n"
            return body
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("own", [(), (CHUNKED,)], ids=["of unknown length", "chunked by itself"])
def test_a_body_of_unknown_length_is_chunked_or_ends_with_the_connection(
    pieces: tuple[bytes, ...], own: tuple[tuple[bytes, bytes], ...]
) -> None:
    with serving(StrictHttpProtocol, answering(*pieces, fields=own)) as bound:
        _, rest = parts(exchange(bound, head(b"Connection: close")))
        assert unchunked(rest) == b"".join(pieces)
        for keep in ((), (b"Connection: keep-alive",)):
            fields, rest = parts(exchange(bound, head(*keep, version=b"1.0")))
            assert b"transfer-encoding" not in fields
            assert fields[b"connection"] == b"close"
            assert rest == b"".join(pieces)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize(
    ("method", "status"), [(b"GET", 204), (b"GET", 304), *((b"HEAD", n) for n in (200, 204, 304))]
)
def test_what_has_no_body_has_none_in_either_version(
    version: bytes, method: bytes, status: int
) -> None:
    with serving(StrictHttpProtocol, answering(fields=(), status=status)) as bound:
        asked = head(b"Connection: close", version=version, method=method)
        fields, rest = parts(exchange(bound, asked))
    assert (rest, b"transfer-encoding" in fields) == (b"", False)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_body_that_breaks_off_does_not_pass_for_a_whole_one(version: bytes) -> None:
    async def breaks_off(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError(SECRET)

    with serving(StrictHttpProtocol, breaks_off) as bound, connect(bound) as client:
        client.sendall(head(b"Connection: close", version=version))
        if version == b"1.0":
            with pytest.raises(ConnectionResetError):
                read_to_end(client)
        else:
            _, rest = parts(read_to_end(client))
            assert rest == b"4\r\nhalf\r\n", "without the last chunk"


@pytest.mark.parametrize(
    ("target", "media_type"),
    [
        (b"/scim-token", b"application/problem+json"),
        (b"/scim/v2/Users", b"application/scim+json"),
        (b"/gateway/envoy/Users", b"application/scim+json"),
    ],
)
@pytest.mark.parametrize("request_id", [None, "8d1e"])
def test_a_failure_is_told_as_any_other_and_logged_without_its_message(
    target: bytes, media_type: bytes, request_id: str | None
) -> None:
    async def fails(scope: Any, *_: Any) -> None:
        if request_id is not None:
            scope["state"]["request_id"] = request_id
        raise ValueError(SECRET)

    with structlog.testing.capture_logs() as logged, serving(StrictHttpProtocol, fails) as bound:
        answer = exchange(bound, head(target=target))
    fields, body = parts(answer)
    assert statuses(answer) == [500]
    assert fields[b"content-type"] == media_type
    assert fields[b"cache-control"] == b"no-store"
    assert fields[b"x-request-id"].decode() == (request_id or fields[b"x-request-id"].decode())
    told = json.loads(body)
    assert str(told["status"]) == "500"
    if media_type == b"application/problem+json":
        assert told["instance"] == f"urn:uuid:{fields[b'x-request-id'].decode()}"
    (line,) = [line for line in logged if line["event"] == "request.failed"]
    assert (line["error"], line["request_id"]) == ("ValueError", request_id)
    assert "test_answers.py" in line["where"]
    assert SECRET not in str(logged)


def test_an_application_that_answers_nothing_is_one_that_failed() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None: ...

    with serving(StrictHttpProtocol, silent) as bound:
        answer = exchange(bound, head())
    assert statuses(answer) == [500]
    assert parts(answer)[0][b"x-request-id"]


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (b"/a?b", [b"/a", b"b", b"ledger"]),
        (b"http://other.example:81/a?b", [b"/a", b"b", b"other.example:81"]),
        (b"HTTPS://[::1]:81/a", [b"/a", b"", b"[::1]:81"]),
        (b"http://other.example", [b"/", b"", b"other.example"]),
        (b"http://other.example?b", [b"/", b"b", b"other.example"]),
        (b"http://other.example/http://third", [b"/http://third", b"", b"other.example"]),
        (b"/http://third", [b"/http://third", b"", b"ledger"]),
        *(
            (refused, None)
            for refused in (
                b"http://user@other.example/",
                b"http://other.example:99999/",
                b"http://[zz]/",
                b"http:///a",
                b"ftp://other.example/a",
            )
        ),
    ],
)
def test_a_whole_url_names_the_host_whatever_the_field_says(
    target: bytes, told: list[bytes] | None
) -> None:
    """RFC 9112 §3.2.2: a gateway goes by the one, and we must not go by the other."""

    async def app(scope: Any, _: Any, send: Any) -> None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        body = b" ".join([scope["raw_path"], scope["query_string"], *hosts])
        fields = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    with serving(StrictHttpProtocol, app) as address:
        answer = exchange(address, head(b"Connection: close", target=target))
    assert statuses(answer) == [200 if told else 400]
    if told:
        assert parts(answer)[1] == b" ".join(told)


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with serving(StrictHttpProtocol) as bound:
        yield bound


TWICE: Final = (b"Authorization: Bearer x", b"Authorization: Bearer y")
WRONG: Final = (TWICE, (b"Host: twice",), (b"no field",))
ORIGINS: Final = (b"", b"http://ledger.example", b"HTTPS://[::1]:8443")
"""Of whole URLs (RFC 9112 §3.2.2), beside none."""
SCIM: Final = (b"/scim/v2", b"/scim/v2/Users?startIndex=1", b"/scim/v2?a=b", b"/gateway/nginx")
ELSEWHERE: Final = (b"/scim/v22", b"/scim-token", b"/x?/scim/v2/Users", b"?/scim/v2", b"")


@pytest.mark.parametrize("target", [*map(b"".join, product(ORIGINS, SCIM))])
@pytest.mark.parametrize("fields", WRONG)
def test_who_speaks_scim_is_refused_in_scims_words(
    fields: tuple[bytes, ...], target: bytes, address: tuple[str, int]
) -> None:
    told, body = parts(exchange(address, head(*fields, target=target)))
    said = json.loads(body)
    assert told[b"content-type"] == b"application/scim+json"
    assert said.pop("detail")
    assert said == {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
        "status": "400",
    }


@pytest.mark.parametrize("target", [*map(b"".join, product(ORIGINS, ELSEWHERE))])
@pytest.mark.parametrize("fields", WRONG)
def test_nobody_else_is(fields: tuple[bytes, ...], target: bytes, address: tuple[str, int]) -> None:
    answer = exchange(address, head(*fields, target=target))
    assert parts(answer)[0][b"content-type"] == b"application/problem+json"


class Held(StrictHttpProtocol):
    """It can be told that the worker leaves."""

    newest: ClassVar["Held"]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        Held.newest = self

    @property
    def is_answer_begun(self) -> bool:
        return self._newest is not None and self._newest.is_begun

    @property
    def is_asked(self) -> bool:
        return self._newest is not None

    def leave(self) -> None:
        """Return once it knows."""
        known = threading.Event()
        self.loop.call_soon_threadsafe(self.shutdown)
        self.loop.call_soon_threadsafe(known.set)
        assert known.wait(5)


@pytest.mark.parametrize("asked", [0, 1])
def test_an_idle_connection_is_heard_for_a_moment_when_the_worker_leaves(asked: int) -> None:
    """What a gateway sends meanwhile is answered, and the answer is the last."""
    with serving(Held) as bound, connect(bound) as client:
        client.sendall(GOOD)
        assert statuses(client.recv(65536)) == [200]
        Held.newest.leave()
        client.sendall(GOOD * asked)
        answer = read_to_end(client)
    assert statuses(answer) == [200] * asked
    assert answer.count(b"connection: close") == asked


@pytest.mark.parametrize("asked", [0, 1])
def test_so_is_one_whose_answer_had_begun(asked: int) -> None:
    """Its head is out, and did not say that it was the last."""
    with serving(Held) as bound, connect(bound) as client:
        client.sendall(head(target=b"/late-body"))
        until(lambda: Held.newest.is_answer_begun, what="the answer")
        Held.newest.leave()
        answer = client.recv(65536)
        assert (statuses(answer), b"connection: close" in answer) == ([200], False)
        client.sendall(GOOD * asked)
        answer = read_to_end(client)
    assert statuses(answer) == [200] * asked
    assert answer.count(b"connection: close") == asked


def test_an_answer_that_had_not_begun_is_the_last_and_says_so() -> None:
    with serving(Held) as bound, connect(bound) as client:
        client.sendall(head(b"Transfer-Encoding: chunked"))
        until(lambda: Held.newest.is_asked, what="the request")
        Held.newest.leave()
        client.sendall(b"0\r\n\r\n" + GOOD)
        answer = read_to_end(client)
    assert (statuses(answer), answer.count(b"connection: close")) == ([200], 1)


def broken_off(app: Any) -> tuple[bytes, list[Any]]:
    """What the client of an answer got, and what was logged."""
    with (
        structlog.testing.capture_logs() as logged,
        serving(StrictHttpProtocol, app) as bound,
        connect(bound) as client,
    ):
        client.sendall(head(b"Connection: close", target=b"/export"))
        got = read_to_end(client)
    return got, logged


@pytest.mark.parametrize("error", [ValueError(SECRET), Unavailable(SECRET), KeyError(SECRET)])
@pytest.mark.parametrize("groups", [0, 1, 2])
def test_an_export_that_breaks_off_is_told_by_its_cause(error: Exception, groups: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        raised = error
        for _ in range(groups):
            raised = ExceptionGroup("tasks", [raised])
        raise raised

    @get("/export")
    async def export() -> Stream:
        return Stream(pieces())

    got, logged = broken_off(Litestar([export]))
    assert got.endswith(b"4\r\nhalf\r\n"), "without the last chunk"
    (line,) = logged
    assert (line["event"], line["log_level"]) == ("request.failed", "error")
    assert line["error"] == type(error).__name__
    assert groups or "test_answers.py" in line["where"]
    assert SECRET not in str(logged)


@pytest.mark.parametrize("is_begun", [True, False])
def test_a_request_that_the_stop_has_ended_is_no_error(*, is_begun: bool) -> None:
    async def cancelled(_scope: Any, _receive: Any, send: Any) -> None:
        if is_begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    got, logged = broken_off(cancelled)
    assert got.endswith(b"4\r\nhalf\r\n") == is_begun
    (line,) = logged
    assert (line["event"], line["log_level"]) == ("request.cut_off", "warning")


# What is refused has no effect


@pytest.mark.parametrize(
    "request_",
    [
        head(b"Transfer-Encoding: chunked", method=b"DELETE") + b"zz\r\n",
        head(b"Transfer-Encoding: chunked", method=b"DELETE") + b"1\r\nabc\r\n",
        head(b"Transfer-Encoding: chunked\t", method=b"DELETE") + b"0\r\n\r\n",
        head(b"Transfer-Encoding: chunked", method=b"DELETE") + b"0\r\nContent-Length: 3\r\n\r\n",
        head(b"Connection: upgrade", b"Upgrade: x", b"Transfer-Encoding: chunked", method=b"DELETE")
        + b"zz\r\n",
    ],
    ids=lambda request: repr(request[-20:]),
)
def test_a_request_that_is_broken_where_its_body_is_reaches_nobody(request_: bytes) -> None:
    """Also one that nobody would read a body of."""
    reached = []

    async def note(scope: Any, _: Any, send: Any) -> None:
        reached.append(scope["path"])
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
        )
        await send({"type": "http.response.body", "body": b""})

    with serving(StrictHttpProtocol, note) as noting:
        answer = exchange(noting, request_)
        assert statuses(exchange(noting, head(b"Connection: close", target=b"/next"))) == [200]

    assert statuses(answer) == [400]
    assert reached == ["/next"]
