"""One life of a token, told alike in every place: API, console, command line, trail, feed, metrics,
doors, introspection, rehearsals, and the past.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as given_any
from hypothesis import strategies as st

from tests.conftest import new_database
from tests.lives import places
from tests.lives.life import STEPS, Life
from tests.lives.world import DAY, INSTANT, World, world


@pytest.fixture(scope="module")
def here(server: str) -> Iterator[World]:
    with new_database(server) as database, world(database) as made:
        yield made


def check(life: Life) -> None:
    """Every place, an instant after what was done."""
    life.world.clock.advance(INSTANT)
    seen = places.standing(life.listed(), life.world.clock.now)
    places.check_api(life, seen)
    places.check_command_line(life, seen)
    places.check_console(life, seen)
    places.check_rehearsals(life, seen)
    places.check_link(life)
    places.check_networks(life)
    places.check_trail(life, seen)
    life.past[life.world.clock.now] = places.plain(seen.token)


def live(here: World, *parts: Sequence[str], lifetime: timedelta | None) -> None:
    """A life, with a look at every place after each part of it."""
    life = Life(here, lifetime=lifetime)
    for steps in parts:
        for step in steps:
            life.do(step)
        check(life)
    places.check_the_past(life)
    places.check_metrics(here)
    where = {"where": {"team_id": life.team}}
    rehearsed = here.api("POST", "/scim-token/revoke", json={**where, "dry_run": True}).json()
    done = here.api("POST", "/scim-token/revoke", json=where).json()
    assert done["revoked"] == done["matched"] == rehearsed["matched"], life.steps
    assert done["result"] == rehearsed["result"], life.steps
    life.steps.append("revoked with many")
    check(life)


def test_a_life_is_told_alike_everywhere(here: World) -> None:
    """Restricted while it rotates, and expired while it is suspended."""
    rotating = ("present first", "allow the office", "rotate for a day", "present last", "suspend")
    live(here, rotating, ("week", "present first"), lifetime=3 * DAY)


@pytest.mark.long
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given_any(
    steps=st.lists(st.sampled_from(STEPS), min_size=3, max_size=10),
    lifetime=st.sampled_from([None, 3 * DAY]),
)
def test_any_life_is_told_alike_everywhere(
    here: World, steps: list[str], lifetime: timedelta | None
) -> None:
    live(here, *([step] for step in steps), lifetime=lifetime)
