"""A6: who has a slot for its connection, and who gives way."""

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.process import FEWEST, OTHER_DESCRIPTORS
from api.server import heartbeat, supervisor
from api.server.connection_limits import TURNED_AWAY_AT_ONCE, ConnectionSlot, ConnectionSlots
from api.server.error_response import Refusal
from api.server.protocol import StrictHttpProtocol
from tests.api.server.serving import GOOD, connect, exchange, head, serving, statuses

LIMIT: Final = 16
OF_ONE: Final = 14


class Guest:
    """A connection as the slots see it."""

    def __init__(self, slots: ConnectionSlots, address: str) -> None:
        self.slot: ConnectionSlot | None = slots.take(self, address)
        self.is_gone = self.slot is None

    def give_way(self) -> None:
        assert self.slot is not None
        self.slot.leave()
        self.is_gone = True


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from("newbusyidleleave"), st.integers(0, 40))
    ),
)
def test_places_are_never_more_than_there_are_and_nobody_busy_gives_way(
    steps: list[tuple[str, str, int]],
) -> None:
    slots, guests, busy = ConnectionSlots(8), [Guest(ConnectionSlots(1), "x")], set[Guest]()
    for address, step, which in steps:
        guest = guests[which % len(guests)]
        if step in "new":
            guests.append(Guest(slots, address))
        elif not guest.is_gone and guest.slot is not None and len(guests) > 1:
            if step in "busy":
                guest.slot.busy()
                busy.add(guest)
            elif step in "idle":
                guest.slot.idle()
                busy.discard(guest)
            else:
                guest.slot.leave()
                guest.is_gone = True
                busy.discard(guest)
        assert not any(guest.is_gone for guest in busy)
        assert sum(not guest.is_gone for guest in guests[1:]) <= 8


def test_the_longest_idle_connection_of_the_peer_that_has_the_most_gives_way() -> None:
    slots = ConnectionSlots(LIMIT)
    few = [Guest(slots, "192.0.2.1") for _ in range(4)]
    many = [Guest(slots, "192.0.2.2") for _ in range(12)]
    for guest in many[:3]:
        assert guest.slot is not None
        guest.slot.busy()
    assert many[1].slot is not None
    many[1].slot.idle()

    for address in ("192.0.2.3", "192.0.2.1", "192.0.2.2"):
        assert not Guest(slots, address).is_gone

    assert not any(guest.is_gone for guest in few)
    assert [guest.is_gone for guest in many] == [False] * 3 + [True] * 3 + [False] * 6


def test_no_peer_gets_them_all_however_busy_it_is() -> None:
    slots = ConnectionSlots(LIMIT)
    guests = [Guest(slots, "192.0.2.1") for _ in range(OF_ONE)]
    for guest in guests:
        assert guest.slot is not None
        guest.slot.busy()

    assert Guest(slots, "192.0.2.1").is_gone
    assert not Guest(slots, "192.0.2.2").is_gone


@pytest.mark.parametrize("first", ["2001:db8::", "fe80::1%eth0"])
def test_a_network_of_ipv6_is_one_peer(first: str) -> None:
    slots = ConnectionSlots(LIMIT)
    for number in range(OF_ONE):
        guest = Guest(slots, f"2001:db8::{number + 1:x}" if first.startswith("2001") else first)
        assert guest.slot is not None
        guest.slot.busy()

    assert Guest(slots, first).is_gone
    assert not Guest(slots, "2001:db8:0:1::1").is_gone


def test_who_found_no_place_takes_no_part() -> None:
    slots = ConnectionSlots(1)
    first = Guest(slots, "192.0.2.1")
    assert first.slot is not None
    first.slot.busy()
    assert Guest(slots, "192.0.2.2").is_gone

    first.slot.leave()
    first.slot.leave()
    first.slot.idle()

    assert not Guest(slots, "192.0.2.2").is_gone


class Small(StrictHttpProtocol):
    max_connections: ClassVar[int] = LIMIT


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    with serving(Small) as bound:
        yield bound


@pytest.fixture
def clients() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def is_open(client: socket.socket) -> bool:
    client.settimeout(0.05)
    try:
        return client.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionError:
        return False


def test_idle_connections_give_way_to_new_ones(
    address: tuple[str, int], clients: contextlib.ExitStack
) -> None:
    """A6: many connections of one peer, one request each, then idle."""
    kept = [clients.enter_context(connect(address)) for _ in range(3 * LIMIT)]
    for client in kept:
        with contextlib.suppress(ConnectionError):
            client.sendall(GOOD)
            client.recv(999)

    for _ in range(5):
        assert statuses(exchange(address, GOOD + head(b"Connection: close"))) == [200, 200]
    assert sum(map(is_open, kept)) <= OF_ONE


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost:"], ids=["nothing", "half a head"])
def test_so_do_those_that_ask_for_nothing(
    begun: bytes, address: tuple[str, int], clients: contextlib.ExitStack
) -> None:
    for _ in range(LIMIT):
        clients.enter_context(connect(address)).sendall(begun)

    assert statuses(exchange(address, head(b"Connection: close"))) == [200]


def test_a_connection_too_many_is_told_to_come_back(
    address: tuple[str, int], clients: contextlib.ExitStack
) -> None:
    """Those being served keep their slots;
    who sent its request at once can read that there is none.
    """
    busy = [clients.enter_context(connect(address)) for _ in range(OF_ONE)]
    for client in busy:
        client.sendall(head(b"Content-Length: 3", method=b"POST") + b"ab")
    deadline = time.monotonic() + 5
    while statuses(answer := exchange(address, head(b"Connection: close"))) != [503]:
        assert time.monotonic() < deadline, "the busy ones gave way"
    assert b"retry-after: 1\r\n" in answer

    for client in busy:
        client.sendall(b"c")
        assert statuses(client.recv(999)) == [200]
    assert statuses(exchange(address, head(b"Connection: close"))) == [200]


def test_of_those_turned_away_only_some_are_waited_for(
    address: tuple[str, int], clients: contextlib.ExitStack
) -> None:
    for _ in range(OF_ONE):
        clients.enter_context(connect(address)).sendall(head(b"Content-Length: 3", method=b"POST"))
    refused = [clients.enter_context(connect(address)) for _ in range(2 * TURNED_AWAY_AT_ONCE)]

    assert [statuses(client.recv(999)) for client in refused] == [[503]] * len(refused)
    with connect(address) as late:
        assert statuses(late.recv(999)) == [503]
        assert late.recv(1) == b""


def limits(soft: int, hard: int) -> Any:
    """What a process with these limits says that it may have."""
    program = (
        "import json, resource\n"
        "from api.process import TooFewDescriptors\n"
        "from api.process import check_descriptor_limit, raise_descriptor_limit\n"
        "from api.server.connection_limits import slots_of\n"
        "try: check_descriptor_limit()\n"
        "except TooFewDescriptors as error: print(json.dumps(str(error)))\n"
        "else:\n"
        "    raise_descriptor_limit()\n"
        "    class Worker: pass\n"
        "    worker = Worker()\n"
        "    print(json.dumps([resource.getrlimit(resource.RLIMIT_NOFILE), "
        "slots_of(worker, most=2048).limit]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("soft", "hard", "connections"),
    [(256, 4096, 2048), (1024, 1024, 768), (64, 400, 400 - OTHER_DESCRIPTORS)],
)
def test_the_soft_limit_of_descriptors_is_raised_and_bounds_the_places(
    soft: int, hard: int, connections: int
) -> None:
    assert limits(soft, hard) == [[hard, hard], connections]


def test_a_process_that_may_open_too_few_files_says_so() -> None:
    few = OTHER_DESCRIPTORS + FEWEST - 1

    assert limits(few, few) == (
        f"a process may open {few} files here, and a worker needs {few + 1}: "
        "raise the limit (ulimit -n, LimitNOFILE= of systemd, or the ulimits of the container)"
    )


def test_the_limits_are_those_of_the_reference() -> None:
    reference = (Path(__file__).parents[3] / "docs/reference/settings.md").read_text()
    of = StrictHttpProtocol
    for row in (
        (
            f"| connections | {of.max_connections}, or the descriptors a process may open "
            f"(`ulimit -n`, the hard limit) less {OTHER_DESCRIPTORS} |"
        ),
        (
            f"| target, headers | {of.max_target_bytes // 1024} KiB; "
            f"{of.max_header_bytes // 1024} KiB "
            f"and {of.max_headers} of them |"
        ),
        f"| requests of one connection behind the one being answered | {of.max_waiting} |",
        f"| first byte, whole head, next piece of a body | {of.receive_timeout_s:.0f} s |",
        f"| the whole of a body | {of.body_timeout_s:.0f} s |",
        f"| idle | {of.keep_alive_timeout_s:.0f} s:",
        f"| an answer that the client does not take | {of.send_timeout_s:.0f} s ",
        f"| an event loop or a process that stands still | {heartbeat.SILENT_S:.0f} s |",
        (
            f"then {supervisor.LAST_GRACE_S:.0f} s for the projection process; new connections are "
            f"refused at once, and one that is idle is closed after {of.leaving_timeout_s:g} s |"
        ),
    ):
        assert row in reference


def test_a_refusal_is_a_whole_response() -> None:
    refusal = Refusal(503, "Enough.")
    answer = refusal.to_bytes([(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")])

    assert answer.startswith(
        b"HTTP/1.1 503 Service Unavailable\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    )
    assert answer.endswith(
        b',"title":"Too many connections","status":503,"detail":"Enough.",'
        b'"instance":"urn:uuid:%s"}' % refusal.request_id.encode()
    )
