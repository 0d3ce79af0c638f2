"""A page offers what can be done to its token, and nothing else, whatever was done before."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import product
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from api.console.pages.api_tokens.one import OVERLAPS
from domain.api_token import rotation as rotation_of_api_token
from domain.authority import Operator
from domain.errors import Refusal
from domain.event import Event
from domain.scim_token import rotation
from domain.scim_token.changes import change, resume, suspend
from domain.scim_token.handover.decide import offer, withdraw
from domain.scim_token.networks.decide import allow, allow_any
from domain.scim_token.token import ScimToken
from domain.secret import Digest
from tests.conftest import new_database
from tests.domain.scenario import ADA
from tests.lives.life import Life, actions, offered
from tests.lives.world import DAY, INSTANT, World, world
from tests.turns import by_turns

ANOTHER: Final = Digest(b"x" * 32, 1)
NETWORK, ANOTHER_NETWORK = "192.0.2.0/24", "198.51.100.0/24"
DECISIONS: Final[Mapping[str, Callable[[ScimToken, datetime], Sequence[Event]]]] = {
    "rotate": lambda token, at: rotation.rotate(
        token, digest=ANOTHER, overlap=DAY, rotated_by=ADA, at=at
    ),
    "complete": lambda token, at: rotation.complete(token, completed_by=ADA, at=at),
    "cancel": lambda token, at: rotation.cancel(token, cancelled_by=ADA, at=at),
    "suspend": lambda token, _: suspend(token, by=ADA, reason=None),
    "resume": lambda token, _: resume(token, by=ADA, reason=None),
    "change": lambda token, at: change(token, name="another", by=ADA, reason=None, at=at),
    "setup-link": lambda token, at: offer(token, digest=ANOTHER, created_by=ADA, at=at),
    "allow-networks": lambda token, _: allow(token, [ANOTHER_NETWORK], by=ADA, reason=None),
    "allow-any-network": lambda token, _: allow_any(token, by=ADA, reason=None),
    "revoke": lambda token, _: token.revoke(by=ADA, reason=None),
}
STEPS: Final = (
    "rotate",
    "cancel",
    "suspend",
    "resume",
    "link",
    "open link",
    "end",
    "day",
    "networks",
)
LIVES: Final = [*product(STEPS, repeat=2), *product(STEPS, repeat=3)]


@pytest.fixture(scope="module")
def here(server: str) -> Iterator[World]:
    with new_database(server) as database, world(database) as made:
        yield made


def accepted(token: ScimToken, at: datetime) -> set[str]:
    """The commands that would record something: ten seconds after a rotation, none is too soon."""
    if token.rotated_at is not None:
        at = max(at, token.rotated_at + rotation.ROTATE_EVERY)
    found = set[str]()
    for command, decide in DECISIONS.items():
        try:
            found |= {command} if decide(token, at) else set()
        except Refusal:
            continue
    return found


def check(life: Life) -> None:
    token, at = life.state(), life.world.clock.now
    page = life.world.page(f"/console/tokens/{life.id}").text
    assert offered(page) - {"end-setup-link"} == accepted(token, at), life.steps
    link_opens = bool(withdraw_or_nothing(token, at))
    assert not link_opens or "end-setup-link" in actions(page), life.steps
    assert ("Good from these alone." in page) == bool(token.networks), life.steps
    is_underway = rotation.underway(token, at) is not None
    assert ("Two secrets are good" in page) == is_underway, life.steps


def withdraw_or_nothing(token: ScimToken, at: datetime) -> Sequence[Event]:
    return () if token.revoked_at is not None else withdraw(token, ended_by=ADA, at=at)


def live(here: World, lives: Sequence[Sequence[str]]) -> None:
    for steps in lives:
        life = Life(here)
        for step in steps:
            do(life, step)
        check(life)


def do(life: Life, step: str) -> None:
    """networks: from one alone, or from anywhere again."""
    if step != "networks":
        life.do(step)
        return
    token = life.state()
    if token.revoked_at is None:
        by = Operator()
        life.world.clock.advance(INSTANT)
        life.world.ask(
            lambda ledger: (
                ledger.allow_any_network(token.id, by=by)
                if token.networks
                else ledger.allow_networks(token.id, [NETWORK], by=by)
            )
        )
    life.steps.append(step)


KNOWN: Final = (
    ("rotate", "suspend"),
    ("suspend", "rotate", "day"),
    ("link", "rotate"),
    ("present last", "link", "open link"),
    ("suspend", "end", "day"),
    ("rotate", "end", "day"),
    ("rotate", "month"),
    ("rotate", "suspend", "resume"),
    ("rotate", "suspend", "cancel"),
    ("rotate", "suspend", "revoke"),
    ("networks", "end", "day"),
    ("networks", "suspend", "networks"),
    ("networks", "rotate", "revoke"),
)


def test_a_token_s_page_offers_what_can_be_done(here: World) -> None:
    live(here, KNOWN)


@pytest.mark.long
@pytest.mark.parametrize("first", STEPS)
def test_a_token_s_page_offers_what_can_be_done_after_any_steps(here: World, first: str) -> None:
    live(here, [steps for steps in LIVES if steps[0] == first])


API_STEPS: Final = {
    "rotate": {"overlap_seconds": 86_400},
    "rotate at once": {"overlap_seconds": 0},
    "seconds": timedelta(seconds=11),
    "day": DAY,
}
API_LIVES: Final = [*product(API_STEPS, repeat=2), *product(API_STEPS, repeat=3)]


@pytest.mark.parametrize("lifetime", [None, DAY + timedelta(hours=1)])
@pytest.mark.parametrize("steps", by_turns([(steps,) for steps in API_LIVES], one_of=8))
def test_an_api_token_s_page_offers_what_can_be_done(
    here: World, lifetime: timedelta | None, steps: Sequence[str]
) -> None:
    """A rotation with an overlap, or only without one, or none."""
    ends_at = None if lifetime is None else here.clock.now + lifetime
    asked: dict[str, Any] = {"user_id": str(uuid4()), "permissions": ["scim_tokens:read"]}
    asked["expires_at"] = ends_at and ends_at.isoformat()
    made = here.api("POST", "/api-token", json=asked).json()
    for step in steps:
        given = API_STEPS[step]
        if isinstance(given, timedelta):
            here.clock.advance(given)
        else:
            here.api("POST", f"/api-token/{made['id']}/rotate", json=given)
    here.clock.advance(rotation.ROTATE_EVERY)
    token = here.ask(lambda ledger: ledger.api_token(UUID(made["id"])))
    at, page = here.clock.now, here.page(f"/console/api-tokens/{made['id']}").text
    possible = set[int]()
    for days in OVERLAPS:
        try:
            rotation_of_api_token.rotate(
                token, digest=ANOTHER, overlap=days * DAY, rotated_by=ADA, at=at
            )
        except Refusal:
            continue
        possible.add(days)
    assert {days for days in OVERLAPS if f'<option value="{days}"' in page} == possible
    assert ('action="/console/api-tokens/' + made["id"] + '/rotate"' in page) == bool(possible)
    is_good = token.is_good(at=at)
    assert (">ended<" in page) == (not is_good)
    assert (made["id"] in str(here.listed("/api-token"))) == is_good
