"""B7: no view passes an event that this release does not know;
a release that knows it goes on from there.
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from uuid import uuid4

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.api_token import events as api_token
from domain.authority import Operator
from domain.commands import NewScimToken
from domain.event import Event
from domain.eventstore.event_registry import REGISTRY, EventRegistry, Upcaster
from domain.refusals import tally as refusal_tally
from domain.scim_token import events as scim_token
from domain.scim_token.events import Presentation
from projections import runner as running_views
from projections.follow import apply as applying
from projections.follow.positions import Position, ensure_live
from projections.projection import UnappliableEvent, UnknownTopic
from projections.rebuild.run import check_view, rebuild
from projections.registry import PROJECTIONS
from projections.runner import Runner
from tests.conftest import Database, catch_up, new_database, open_ledger
from tests.domain.scenario import T1, created, revoked, rotated, used
from tests.projections.follow.test_damage import states
from tests.projections.follow.test_runner import counting, leaders
from tests.projections.given_events import record, until
from tests.projections.rebuild.lives import app

EVERYTHING: Final = [*PROJECTIONS, counting("a_counter")]
TOPICS: Final = st.one_of(
    st.sampled_from(
        ["scim_token.used.v2", "scim_token.created.v2", "scim_token.used.v10", "scim_token.used"]
    ),
    st.sampled_from(
        [
            "",
            " ",
            "scim_token.used.v1 ",
            "SCIM_TOKEN.USED.V1",
            "usage.v1",
            "scim_token.\u0443sed.v1",
        ]
    ),
    st.from_regex(r"[a-z_]{1,12}\.[a-z_]{1,12}\.v[0-9]{1,3}", fullmatch=True),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=120),
).filter(lambda topic: topic not in REGISTRY.topics)
LIFE: Final = (created(T1), used(T1), rotated(T1), used(T1), revoked(T1))


def newer(*topics: str) -> EventRegistry:
    """The registry of a release that knows these topics, too; no view of it has a use for them."""
    known = [*scim_token.EVENTS, *api_token.EVENTS, *refusal_tally.EVENTS]
    added = [
        type("Newer", (Event,), {"topic": topic}, frozen=True) for topic in dict.fromkeys(topics)
    ]
    return EventRegistry([*known, *added])


def insert(database: Database, topic: str) -> int:
    """An event of a newer release, in a stream of its own; its position."""
    with psycopg.connect(database.owner) as owner:
        row = owner.execute(
            "INSERT INTO ledger.events (originator_id, originator_version, topic, at, command_id, "
            "state) "
            "SELECT gen_random_uuid(), 1, %s, max(at), gen_random_uuid(), '{}' FROM ledger.events "
            "RETURNING notification_id",
            [topic],
        ).fetchone()
    assert row is not None
    position: int = row[0]
    return position


def fill(database: Database, places: Sequence[str | None]) -> list[int]:
    """A token's life for each None, an event of its topic for each text; where the latter are."""
    record(database, *LIFE)
    unknown = []
    for topic in places:
        if topic is None:
            record(database, *LIFE)
        else:
            unknown.append(insert(database, topic))
    return unknown


def follow(
    database: Database, registry: EventRegistry = REGISTRY, *, batch: int = running_views.BATCH
) -> dict[str, Position]:
    with app(database) as connection:
        for projection in EVERYTHING:
            ensure_live(connection, projection)
        Runner(database.app, EVERYTHING, registry=registry, batch=batch).catch_up(connection)
    return states(database)


def passed_silently(found: dict[str, Position], first: int) -> list[str]:
    """The views that went on behind an event that nobody knows."""
    return [name for name, at in found.items() if at.position >= first or at.stopped_at != first]


PLACES: Final = st.lists(st.none() | TOPICS, max_size=4).flatmap(
    lambda before: st.tuples(st.just(before), TOPICS, st.lists(st.none() | TOPICS, max_size=3)).map(
        lambda found: [*found[0], found[1], *found[2]]
    )
)
"""At least one of them unknown."""


@pytest.mark.long
@settings(max_examples=25)
@given(places=PLACES, batch=st.sampled_from([1, 3, 5000]))
@example(places=["scim_token.used.v2", None], batch=5000)
@example(places=[None, "", None], batch=3)
def test_no_view_passes_it_and_all_go_on_after_the_upgrade(
    server: str, places: list[str | None], batch: int
) -> None:
    with new_database(server) as database:
        first = fill(database, places)[0]
        found = follow(database, batch=batch)
        assert passed_silently(found, first) == []
        assert all(at.position == first - 1 for at in found.values())
        assert all((at.error or "").startswith("unknown topic ") for at in found.values())
        assert all(
            len(at.error or "") < 1500 and (at.error or "").isascii() for at in found.values()
        )

        with app(database) as connection:
            for projection in PROJECTIONS:
                with pytest.raises(UnappliableEvent) as caught:
                    check_view(connection, projection)
                assert caught.value.position == first
            go_on(connection)
        assert passed_silently(follow(database), first) == []

        with app(database) as connection:
            go_on(connection)
        registry = newer(*(topic for topic in places if topic is not None))
        upgraded = follow(database, registry, batch=batch)
        assert {(at.state, at.lag) for at in upgraded.values()} == {("live", 0)}
        with app(database) as connection:
            assert [check_view(connection, each, registry=registry) for each in PROJECTIONS] == [
                None
            ] * 4
            assert [rebuild(connection, each, registry=registry) for each in PROJECTIONS] == [2] * 4


def go_on(connection: psycopg.Connection) -> None:
    connection.execute("UPDATE ledger.projection_positions SET stopped_at = NULL, error = NULL")


def test_planted_a_filter_by_the_views_own_topics_is_noticed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was: what a view does not fold only moved its position."""
    monkeypatch.setattr(applying, "is_known", lambda *_: True)
    first, *_ = fill(database, ["scim_token.used.v2", None])
    assert sorted(passed_silently(follow(database), first)) == sorted(
        each.name for each in EVERYTHING
    )


def test_a_rebuild_stops_there_and_leaves_the_live_view_alone(database: Database) -> None:
    """A view that an older release has led past the event: its rebuild does not go there."""
    first, *_ = fill(database, ["scim_token.used.v2", None])
    catch_up_past(database)
    before = states(database)
    with app(database) as connection:
        for projection in PROJECTIONS:
            for carry_out in (rebuild, check_view):
                with pytest.raises(UnknownTopic) as caught:
                    carry_out(connection, projection)
                assert str(caught.value) == (
                    f"event {first}: unknown topic 'scim_token.used.v2': was "
                    f"it written by a newer release?"
                )
    assert {name: at.position for name, at in states(database).items()} == {
        name: at.position for name, at in before.items()
    }


def catch_up_past(database: Database) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(applying, "is_known", lambda *_: True)
        catch_up(database)


class UsedV0(Event, frozen=True):
    """An older version of a known event."""

    topic = "scim_token.used.v0"


def test_an_old_version_with_an_upcaster_and_what_a_view_has_no_use_for_are_known(
    database: Database,
) -> None:
    def upcast(_: Event) -> Event:
        return used(T1)[0]

    registry = EventRegistry(
        [*scim_token.EVENTS, *api_token.EVENTS, *refusal_tally.EVENTS], [Upcaster(UsedV0, upcast)]
    )
    fill(database, [UsedV0.topic, "api_token.used.v1", "refusal_tally.counted.v1", None])
    views = [each for each in EVERYTHING if not each.needs_stream_team]
    with app(database) as connection:
        for projection in views:
            ensure_live(connection, projection)
        Runner(database.app, views, registry=registry).catch_up(connection)
    found = states(database)
    assert {(found[each.name].state, found[each.name].lag) for each in views} == {("live", 0)}


@contextmanager
def release(database: Database, registry: EventRegistry) -> Iterator[None]:
    """The projection process of one release."""
    stop = threading.Event()
    runner = Runner(database.app, PROJECTIONS, registry=registry)
    thread = threading.Thread(target=runner.run, args=(stop.is_set,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def create_and_use(database: Database) -> None:
    async with open_ledger(database.app) as ledger:
        _, secret = await ledger.create_scim_token(
            NewScimToken(uuid4(), "Okta"), by=Operator(uuid4())
        )
        await ledger.authenticate(secret, Presentation(door="scim", source="192.0.2.1"))


def test_an_older_release_gives_its_lead_up_to_a_newer_one(database: Database) -> None:
    """Both run, the older one leads; authentication goes on throughout."""
    record(database, *LIFE)
    topic = "scim_token.used.v2"
    with release(database, REGISTRY):
        until(lambda: len(leaders(database)) == 1)
        old = leaders(database)
        with release(database, newer(topic)):
            until(lambda: all(at.lag == 0 for at in states(database).values()))
            assert leaders(database) == old
            first = insert(database, topic)
            asyncio.run(create_and_use(database))
            until(
                lambda: all(at.lag == 0 and at.state == "live" for at in states(database).values())
            )
            assert states(database)["usage"].position > first
            assert leaders(database).isdisjoint(old)
            asyncio.run(create_and_use(database))
            until(lambda: all(at.lag == 0 for at in states(database).values()))


@pytest.mark.long
def test_alone_an_older_release_stands_by_and_looks_again_now_and_then(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_views, "YIELD_S", 0.3)
    monkeypatch.setattr(running_views, "STANDBY_S", 0.02)
    record(database, *LIFE)
    with release(database, REGISTRY):
        first = insert(database, "scim_token.used.v2")
        asyncio.run(create_and_use(database))
        until(lambda: all(at.stopped_at == first for at in states(database).values()))
        until(lambda: leaders(database) == set())
        until(lambda: leaders(database) != set())
        until(lambda: leaders(database) == set())
        assert all(at.stopped_at == first for at in states(database).values())
        with psycopg.connect(database.owner) as owner:
            counted = refusal_tally.Counted(reason="unknown", door="scim", minute=T1, count=1)
            owner.execute(
                "UPDATE ledger.events SET topic = %s, state = %s WHERE notification_id = %s",
                [counted.topic, REGISTRY.encode(counted), first],
            )
        until(lambda: all((at.state, at.lag) == ("live", 0) for at in states(database).values()))
