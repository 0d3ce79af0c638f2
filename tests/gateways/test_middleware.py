"""The middleware to copy, before the same table of cases. Needs no gateway program."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
import uvicorn

from deploy.middleware import scim_ledger_asgi, scim_ledger_wsgi
from tests.gateways import cases
from tests.gateways.cases import LedgerCase, ScriptedCase
from tests.gateways.echo import Recorder, asgi_echo, echo_backend, wsgi_echo
from tests.gateways.fronts import Front, Ledger, front_of
from tests.gateways.scripted import scripted_ledger
from tests.served import served
from tests.service import RunningService, until


@contextmanager
def _asgi(ledger_url: str, recorder: Recorder) -> Iterator[str]:
    application = scim_ledger_asgi.ScimLedgerMiddleware(asgi_echo(recorder), ledger_url)
    config = uvicorn.Config(application, lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            until(lambda: server.started, what="uvicorn's start")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _wsgi(ledger_url: str, recorder: Recorder) -> Iterator[str]:
    application = scim_ledger_wsgi.ScimLedgerMiddleware(wsgi_echo(recorder), ledger_url)
    server = make_server("127.0.0.1", 0, application, server_class=_Server, handler_class=_Handler)
    with served(server) as url:
        yield url


MODULES: Final = {"asgi": scim_ledger_asgi, "wsgi": scim_ledger_wsgi}
STARTS: Final[dict[str, Callable[..., Any]]] = {"asgi": _asgi, "wsgi": _wsgi}


@pytest.fixture(scope="module")
def ledger(behind: RunningService) -> Ledger:
    """What is asked here is asked of one worker."""
    return Ledger(behind, behind.api_token())


@pytest.fixture(scope="module", params=STARTS)
def middleware(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """One of the two, not yet started."""
    name: str = request.param
    return partial(front_of, STARTS[name], name=name, door="forward")


@pytest.fixture(scope="module")
def front(middleware: Callable[..., Any], ledger: Ledger) -> Iterator[Front]:
    """It, before the real service."""
    with middleware(ledger_url=ledger.service.url) as started:
        yield started


@pytest.fixture(scope="module")
def scripted_front(middleware: Callable[..., Any], scripted: str) -> Iterator[Front]:
    """It, before the stand-in."""
    with middleware(ledger_url=scripted) as started:
        yield started


@pytest.mark.parametrize("case", cases.LEDGER_CASES, ids=lambda case: case.__name__)
def test_before_the_ledger(case: LedgerCase, front: Front, ledger: Ledger) -> None:
    case(front, ledger)


@pytest.mark.parametrize("case", cases.SCRIPTED_CASES, ids=lambda case: case.__name__)
def test_before_rare_answers(case: ScriptedCase, scripted_front: Front) -> None:
    case(scripted_front)


@pytest.mark.parametrize("word", ["nameless", "blank", "no-content"])
def test_an_answer_that_names_nobody_is_no(word: str, scripted_front: Front) -> None:
    path = cases.users()
    assert scripted_front.ask(path, word).status_code == 503
    assert not scripted_front.recorder.to(path)


def test_without_a_ledger(middleware: Callable[..., Any]) -> None:
    with ExitStack() as there:
        url = there.enter_context(scripted_ledger())
        with middleware(ledger_url=url) as front:
            assert front.ask("/scim/v2/Users", "good").status_code == 200
            there.close()
            cases.a_ledger_that_is_gone_lets_nobody_in(front)


PLANTS: Final[dict[str, tuple[str, object, LedgerCase]]] = {
    "the client's headers stay": (
        "_cleaned",
        lambda given: given,
        cases.what_the_client_calls_itself_never_arrives,
    ),
    "the challenge is lost": ("KEPT", ("content-type",), cases.without_a_token_nothing_gets_in),
    "a refusal is no refusal": ("ANSWERED", (), cases.a_token_that_nobody_issued_is_refused),
}


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", STARTS)
def test_the_table_notices_a_planted_bug(
    name: str, plant: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    attribute, bad, case = PLANTS[plant]
    with front_of(STARTS[name], ledger.service.url, name=name, door="forward") as front:
        monkeypatch.setattr(MODULES[name], attribute, bad)
        with pytest.raises(AssertionError):
            case(front, ledger)


def test_a_websocket_is_refused() -> None:
    sent: list[Any] = []

    async def application(*_: object) -> None:
        raise AssertionError("reached")

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: object) -> None:
        sent.append(message)

    middleware = scim_ledger_asgi.ScimLedgerMiddleware(application, "http://127.0.0.1:1")
    asyncio.run(middleware({"type": "websocket", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("name", ["authorization", "user-agent"])
def test_a_line_break_in_a_header_does_not_reach_the_ledger(name: str) -> None:
    """Servers refuse such a header; one that does not must not be able to write the question."""
    evil = "Bearer good\r\nX-Forwarded-Method: DELETE"
    recorder = Recorder()
    with echo_backend(recorder) as ledger_url:
        started: list[str] = []
        wsgi = scim_ledger_wsgi.ScimLedgerMiddleware(wsgi_echo(Recorder()), ledger_url)
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            f"HTTP_{name.upper().replace('-', '_')}": evil,
        }
        list(wsgi(environ, lambda status, _: started.append(status)))

        async def receive() -> dict[str, str]:
            return {"type": "http.request"}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                started.append(str(message["status"]))

        asgi = scim_ledger_asgi.ScimLedgerMiddleware(asgi_echo(Recorder()), ledger_url)
        headers = [(name.encode(), evil.encode())]
        scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "headers": headers}
        asyncio.run(asgi(scope, receive, send))
    assert started == ["503 Service Unavailable", "503"]
    assert not recorder.to("/gateway/forward")
