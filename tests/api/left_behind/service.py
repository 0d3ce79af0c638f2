"""A service in this process, of which is measured what its requests leave.

What stands in a circle of references waits for the collector, which a service is spared: with it,
the request's body, its batch, or a socket.
"""

import gc
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import uvloop

from api.app import build
from api.server.protocol import StrictHttpProtocol
from api.settings import Settings
from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import NewApiToken, NewScimToken
from domain.secret import SecretKind, mint
from tests.api.server.serving import connect, serving
from tests.conftest import TESTS_KEY, Database, open_ledger

TIMES: Final = 20
A_FEW: Final = 10
"""Objects of other threads, and of what is made now and then."""
PATIENCE_S: Final = 10.0
POOLED: Final = 8
"""Connections that the service keeps, to the database and the upstream: more or fewer each time."""
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3})")
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class World(NamedTuple):
    """A service in this process; what may be asked for, by name."""

    address: tuple[str, int]
    database: Database
    secrets: dict[str, str]
    token_id: str


class Answer(NamedTuple):
    """status: 0 where the connection ended without one."""

    status: int
    head: str
    body: str


class Left(NamedTuple):
    """Objects. to_collector: that only it frees. kept: that it does not free, either."""

    to_collector: int
    kept: int


@contextmanager
def world_on(database: Database, **settings: Any) -> Iterator[World]:
    """A service on a database, with callers of each kind."""

    async def made() -> tuple[dict[str, str], str]:
        async with open_ledger(database.app) as ledger:
            _, admin = await ledger.create_api_token(
                NewApiToken(uuid4(), None, tuple(Permission), None)
            )
            token, provider = await ledger.create_scim_token(
                NewScimToken(uuid4(), "Okta"), by=Operator(uuid4())
            )
        secrets = {
            "admin": admin,
            "provider": provider,
            "unknown": mint(SecretKind.SCIM_LIVE, bytes(32)),
        }
        shown = {name: secret.reveal() for name, secret in secrets.items()}
        return {**shown, "garbage": "garbage"}, str(token.id)

    secrets, token_id = uvloop.run(made())
    app = build(Settings(database_url=database.app, pepper=TESTS_KEY, **settings))
    with serving(StrictHttpProtocol, app, lifespan="on") as address:
        yield World(address, database, secrets, token_id)


def ask(client: socket.socket, question: bytes) -> Answer:
    """The answer, read to its end or that of the connection."""
    client.sendall(question)
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = client.recv(65536)
        if not piece:
            return Answer(0, "", "")
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    length, status = _LENGTH.search(head), _STATUS.match(head)
    left = int(length[1]) - len(body) if length and not question.startswith(b"OPTIONS") else 0
    while left and (piece := client.recv(left)):
        body += piece
        left -= len(piece)
    assert status is not None
    return Answer(int(status[1]), head.decode(), body.decode())


def ask_anew(world: World, question: bytes) -> int:
    """The status of the answer on a connection of its own, which ends behind it."""
    with connect(world.address) as client:
        return ask(client, question).status


def left_by(once: Callable[[], object], *, times: int = TIMES) -> Left:
    """What so many times leave, beyond what is made once. Whatever they opened is closed first."""
    for _ in range(2):
        once()
    before = _settled(descriptors() + POOLED)
    gc.collect()
    gc.disable()
    try:
        known = len(gc.get_objects())
        for _ in range(times):
            once()
        _settled(before + POOLED)
        to_collector = gc.collect()
        return Left(to_collector, len(gc.get_objects()) - known)
    finally:
        gc.enable()


def descriptors() -> int:
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _settled(most: int) -> int:
    """Descriptors, once they are so few, and have been the same for a while."""
    deadline = time.monotonic() + PATIENCE_S
    found, since = descriptors(), time.monotonic()
    while found > most or time.monotonic() - since < 0.1:
        assert time.monotonic() < deadline, f"{found} descriptors are open, {most} were"
        time.sleep(0.01)
        now = descriptors()
        if now != found:
            found, since = now, time.monotonic()
    return found
