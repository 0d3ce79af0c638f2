"""C7: the addresses that the service listens on."""

import errno
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from api.server.listening import ListenError, bind, is_listening, listen_on, refuse, url_of

pytestmark = pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def reached(port: int) -> set[str]:
    """By which address of this machine a port is reached."""
    found = set()
    for host in ("127.0.0.1", "127.0.0.2", "::1"):
        try:
            socket.create_connection((host, port), timeout=5).close()
        except ConnectionRefusedError:
            continue
        found.add(host)
    return found


def test_a_port_in_use_is_named() -> None:
    with bind("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(ListenError, match=f"^port {port} on 127.0.0.1 is in use: "):
            bind("127.0.0.1", port)


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(
        ListenError, match=r"^cannot listen on port 8080 of host\.invalid: "
    ) as told:
        bind("host.invalid", 8080)
    assert "rror" not in str(told.value), "the system's words, and no number of an error"


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
)
def test_the_listening_socket_is_of_the_family_of_its_host_and_inheritable(
    host: str, family: socket.AddressFamily
) -> None:
    with bind(host, 0) as listener:
        assert listener.family == family
        assert listener.get_inheritable()


ALL = {"127.0.0.1", "127.0.0.2", "::1"}


@pytest.mark.parametrize(
    ("hosts", "found"),
    [
        (["::"], ALL),
        (["0.0.0.0"], ALL - {"::1"}),
        (["::1"], {"::1"}),
        (["127.0.0.1"], {"127.0.0.1"}),
        (["127.0.0.1", "::1"], {"127.0.0.1", "::1"}),
        (["0.0.0.0", "::"], ALL),
        (["::", "0.0.0.0"], ALL),
        (["127.0.0.1", "127.0.0.2", "127.0.0.1"], {"127.0.0.1", "127.0.0.2"}),
    ],
    ids=lambda given: ",".join(sorted(given)),
)
def test_every_address_that_was_asked_for_is_served_on_one_port(
    hosts: Sequence[str], found: set[str], opened: ExitStack
) -> None:
    listeners = [opened.enter_context(listener) for listener in listen_on(hosts, 0)]

    (port,) = {listener.getsockname()[1] for listener in listeners}
    assert reached(port) == set(), "nobody could answer yet"
    assert not any(map(is_listening, listeners))
    for listener in listeners:
        listener.listen()
    assert all(map(is_listening, listeners))
    assert reached(port) == found


def test_who_has_connected_when_nobody_may_any_more_is_taken_in(opened: ExitStack) -> None:
    listener = opened.enter_context(bind("127.0.0.1", 0))
    listener.listen()
    address = listener.getsockname()
    clients = [opened.enter_context(socket.create_connection(address)) for _ in range(20)]
    taken: list[socket.socket] = []

    def take_in() -> None:
        for _ in clients:
            taken.append(opened.enter_context(listener.accept()[0]))  # noqa: PERF401 - as they come

    worker = threading.Timer(0.005, take_in)
    worker.start()
    refuse(listener)
    worker.join()
    for each in taken:
        each.sendall(b"x")
    assert [client.recv(1) for client in clients] == [b"x"] * len(clients)
    assert not reached(address[1])


def test_who_is_not_taken_in_is_refused_all_the_same(opened: ExitStack) -> None:
    listener = opened.enter_context(bind("::1", 0))
    listener.listen()
    client = opened.enter_context(socket.create_connection(listener.getsockname()[:2]))
    refuse(listener)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert not reached(listener.getsockname()[1])


def test_one_address_that_cannot_be_served_leaves_none_open() -> None:
    with bind("127.0.0.2", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=r"127\.0\.0\.2 is in use"):
            listen_on(["127.0.0.1", "127.0.0.2"], port)
        assert reached(port) == {"127.0.0.2"}


@pytest.mark.parametrize(
    ("host", "shown"), [("::", "[::]"), ("::1", "[::1]"), ("127.0.0.1", "127.0.0.1")]
)
def test_an_address_is_printed_as_a_client_writes_it(host: str, shown: str) -> None:
    with bind(host, 0) as listener:
        assert url_of(listener) == f"http://{shown}:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (
            errno.EACCES,
            "this user may not listen on port 80 of ::1: name one from 1024 on (--port)",
        ),
        (
            errno.EADDRINUSE,
            "port 80 on ::1 is in use: end what listens there, or name another (--port)",
        ),
        (
            errno.EADDRNOTAVAIL,
            f"cannot listen on port 80 of ::1: {os.strerror(errno.EADDRNOTAVAIL)}",
        ),
    ],
)
def test_why_an_address_cannot_be_served_is_told_in_an_operators_words(
    monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "… (while attempting to bind on address ('::1', 80))")

    monkeypatch.setattr("socket.socket.bind", refuse)
    with pytest.raises(ListenError) as refusal:
        bind("::1", 80)
    assert str(refusal.value) == said
