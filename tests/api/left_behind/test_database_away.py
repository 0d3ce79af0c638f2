"""What a request leaves that the database does not answer: nothing, however it fails."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.api.left_behind.service import A_FEW, World, ask, left_by, world_on
from tests.api.server.serving import connect
from tests.conftest import catch_up
from tests.faults.own_server import own_server
from tests.raw_http import request
from tests.turns import by_turns

AT_ONCE: Final = 8
ASKED: Final[dict[str, tuple[str, str, str | None, dict[str, Any]]]] = {
    "a use": ("GET", "/gateway/nginx", "provider", {}),
    "an unknown secret": ("GET", "/gateway/nginx", "unknown", {}),
    "a creation": ("POST", "/scim-token", "admin", {"team_id": str(uuid4()), "name": "Okta"}),
    "a page": ("GET", "/scim-token", "admin", {}),
    "an export": ("GET", "/audit?format=ndjson", "admin", {}),
    "readiness": ("GET", "/readyz", None, {}),
    "verification": ("POST", "/verify", "admin", {"token": "anything"}),
    "the console": ("GET", "/console/tokens", None, {}),
}


@contextmanager
def without_database(*, is_hung: bool) -> Iterator[World]:
    """A service whose database was there, and refuses or swallows everything since."""
    with ExitStack() as stack:
        own = stack.enter_context(own_server(is_durable=False))
        world = stack.enter_context(world_on(own.database))
        for question in questions(world):
            catch_up(own.database)
            with connect(world.address) as client:
                assert ask(client, question).status != 503
        if is_hung:
            stack.enter_context(own.stopped())
        else:
            own.server.stop()
        yield world


def questions(world: World) -> list[bytes]:
    return [
        request(method, path, authorization=None if by is None else world.secrets[by], **document)
        for method, path, by, document in ASKED.values()
    ]


@pytest.fixture(scope="module")
def away() -> Iterator[World]:
    with without_database(is_hung=False) as world:
        yield world


@pytest.fixture(scope="module")
def hung() -> Iterator[World]:
    with without_database(is_hung=True) as world:
        yield world


def asked_at_once(world: World, question: bytes) -> set[int]:
    """The statuses of so many answers; they make one batch, or a few."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(world.address)) for _ in range(AT_ONCE)]
        for client in clients:
            client.sendall(question)
        return {ask(client, b"").status for client in clients}


def test_a_database_that_refuses(away: World) -> None:
    for name, question in zip(ASKED, questions(away), strict=True):
        answers: set[int] = set()
        left = left_by(lambda: answers.update(asked_at_once(away, question)), times=5)  # noqa: B023
        assert answers <= {503, 303}, name
        assert left.to_collector < A_FEW, name


@pytest.mark.parametrize("name", by_turns(ASKED, one_of=len(ASKED)))
def test_a_database_that_hangs(hung: World, name: str) -> None:
    question = questions(hung)[list(ASKED).index(name)]
    answers: set[int] = set()
    left = left_by(lambda: answers.update(asked_at_once(hung, question)), times=2)
    assert answers <= {503, 303}
    assert left.to_collector < A_FEW
