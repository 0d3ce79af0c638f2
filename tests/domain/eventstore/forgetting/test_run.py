"""After addresses are forgotten a ledger is what it would be if they had been others from the
beginning: whatever happened, whatever has left for the archive, and whatever leaves next.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
import psycopg
import pytest
from hypothesis import example, settings
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.event import Actor, Event
from domain.eventstore.archive import stretches as stretches_module
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.forgetting.events import Forgotten
from domain.eventstore.forgetting.run import Forgetting, forget
from domain.eventstore.repair import NotRepairable
from domain.networks.plain import plain_network
from domain.scim_token.events import Created, Presentation, SetupLinkCreated, Suspended, Used
from domain.scim_token.warnings import FirstUsed
from domain.secret import Digest
from projections.archive.extending import Extent
from projections.follow.positions import live_position
from projections.ledger_check import check_ledger
from projections.rebuild import run as rebuild
from projections.registry import PROJECTIONS
from tests.conftest import Database, catch_up, new_database
from tests.domain.scenario import T0, TEAM_ID
from tests.projections.archive.archiving import HOUR, STEPS, TOKENS, Step, archive, facts
from tests.projections.history import Fact, given

NETWORKS: Final = ("192.0.2.1", "2001:db8::/32", "0.0.0.0/0", "198.51.100.0/24")
END: Final = T0 + timedelta(days=400)


def forgotten(database: Database, network: str, *agents: str) -> Forgetting:
    what = Forgotten([plain_network(network)], agents)
    with psycopg.connect(database.owner) as owner:
        return forget(owner, what, by="tests", reason="asked for")


def rebuilt(database: Database) -> Mapping[str, list[str]]:
    """The rows of each view, made anew, and of what is stored beside the events; without what the
    archive has of its own.
    """
    catch_up(database)
    tables = ["ledger.stream_heads", "ledger.aggregates", "ledger.secrets"]
    with psycopg.connect(database.app, autocommit=True) as app:
        for each in PROJECTIONS:
            rebuild.rebuild(app, each, accepts_difference=True)
            live = live_position(app, each)
            assert live is not None
            tables.append(f"views.{each.name}_v{live.version}")
    with psycopg.connect(database.owner) as owner:
        return {
            name.rpartition("_v")[0] or name: sorted(
                row
                for (row,) in owner.execute(f"SELECT t::text FROM {name} t".encode()).fetchall()
                if "archive" not in row
            )
            for name in tables
        }


def sources(database: Database) -> Mapping[int, str | None]:
    """The address of each event, by its position."""
    with psycopg.connect(database.owner) as owner:
        return dict(
            owner.execute(
                "SELECT notification_id, jsonb_path_query_first("
                "convert_from(state, 'UTF8')::jsonb, '$.**.source') #>> '{}' FROM ledger.events"
            ).fetchall()
        )


def renamed(history: Sequence[Fact], names: Mapping[str | None, str | None]) -> Sequence[Fact]:
    """The same, from other addresses."""

    def mapped(words: Any, key: str = "") -> Any:
        if isinstance(words, dict):
            return {name: mapped(value, name) for name, value in words.items()}
        return names.get(words, words) if key == "source" else words

    return [
        (id_, REGISTRY.decode(event.topic, msgspec.json.encode(mapped(told(event)))), at)
        for id_, event, at in history
    ]


def told(event: Event) -> Any:
    return msgspec.json.decode(REGISTRY.encode(event))


BY: Final = Actor(TEAM_ID, None, "192.0.2.1", "curl")
OTHER: Final = UUID(int=9)
DECIDED: Final[Sequence[Fact]] = [
    (OTHER, Created(TEAM_ID, "Okta", BY, Digest(bytes([9]) * 32, 1), None), T0),
    (OTHER, SetupLinkCreated(BY, bytes(32), END), T0),
    (OTHER, FirstUsed("192.0.2.1"), T0),
    (OTHER, Suspended(BY, None), T0),
]
"""Of which an address is in the state of the token, too."""


class Case(NamedTuple):
    """age: up to how many hours behind the beginning the archive goes first. size: events of a
    stretch.
    """

    steps: Sequence[Step]
    network: str
    age: int
    size: int


def check(server: str, directory: Path, case: Case) -> None:
    history, network, age = [*DECIDED, *facts(case.steps)], case.network, case.age
    with new_database(server) as database, new_database(server) as twin:
        given(database, *history)
        first = archived(database, directory / "first", age)
        before = sources(database)
        done = forgotten(database, network)
        after = sources(database)
        names = {source: after[position] for position, source in before.items()}
        changed = {source for source, name in names.items() if name != source}
        what = Forgotten([plain_network(network)], [])
        assert changed == {source for source in names if what.has_address(source)}
        assert done.events == sum(source in changed for source in before.values())
        assert done.addresses == len(changed)
        given(twin, *renamed(history, names))
        assert archived(twin, directory / "twin", age) == first
        assert rebuilt(database) == rebuilt(twin)
        next_ = [
            archive(each, directory / place, END)
            for each, place in ((database, "first"), (twin, "twin"))
        ]
        assert next_[0] == next_[1]
        with psycopg.connect(database.app, autocommit=True) as app:
            checked = check_ledger(app)
        assert (checked.damage, checked.archived) == (None, first.removed + next_[0].removed)


def archived(database: Database, directory: Path, age: int) -> Extent:
    directory.mkdir()
    return archive(database, directory, T0 + age * HOUR)


USED: Final[list[Step]] = [
    (token, "used", HOUR, source, 2)
    for source in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", None, "192.0.2.1")
    for token in (0, 1, 0)
]


@settings(max_examples=4)
@example(Case(USED, "192.0.2.1", age=9, size=4))
@example(Case(USED, "0.0.0.0/0", age=14, size=5))
@given_any(
    st.builds(
        Case, STEPS, st.sampled_from(NETWORKS), age=st.integers(0, 60), size=st.integers(1, 12)
    )
)
def test_a_ledger_is_as_if_the_addresses_had_been_others(
    server: str, tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    with pytest.MonkeyPatch.context() as sizes:
        sizes.setattr(stretches_module, "EVENTS", case.size)
        check(server, tmp_path_factory.mktemp("archive"), case)


KEPT: Final = """
    INSERT INTO ledger.repaired_events (repair_id, notification_id, topic, at, state)
    SELECT r.id, notification_id, topic, e.at, CASE WHEN topic LIKE '%.used.%' THEN convert_to(
        (convert_from(state, 'UTF8')::jsonb || jsonb_build_object('count', r.id + 1))::text, 'UTF8'
    ) ELSE state END FROM ledger.events e, ledger.repairs r
"""
COUNTED: Final = """
    SELECT repair_id, notification_id, convert_from(state, 'UTF8')::jsonb -> 'count'
    FROM ledger.repaired_events ORDER BY 1, 2
"""
LEFT: Final = """
    SELECT count(*) FROM ledger.events e FULL JOIN ledger.repaired_events r USING (notification_id)
    WHERE convert_from(e.state, 'UTF8') || convert_from(r.state, 'UTF8') ~ '192[.]0[.]2|curl'
"""


def test_what_a_repair_has_kept_is_forgotten_too_and_it_is_on_record(database: Database) -> None:
    how = Presentation("scim", source="192.0.2.1", user_agent="curl")
    given(database, *facts(USED), (TOKENS[0], Used(1, END, how), END))
    with psycopg.connect(database.owner, autocommit=True) as owner:
        for _ in range(2):
            owner.execute("INSERT INTO ledger.repairs (kind, by, reason) VALUES ('states', '', '')")
        owner.execute(KEPT)
        kept = owner.execute(COUNTED).fetchall()
        assert forgotten(database, "0.0.0.0/0", "curl") == Forgetting(10, addresses=2)
        assert owner.execute(LEFT).fetchone() == (0,)
        assert owner.execute(COUNTED).fetchall() == kept
        on_record = owner.execute("SELECT kind, by, reason FROM ledger.repairs ORDER BY id")
        assert on_record.fetchall()[2] == ("forgetting", "tests as postgres", "asked for")
        assert forgotten(database, "0.0.0.0/0", "curl").events == 0


def test_an_agent_is_forgotten_where_it_is_the_whole_and_nothing_else(database: Database) -> None:
    hows = [Presentation("scim", user_agent=each) for each in ("curl", "curl/8")]
    given(database, *facts([]), *((TOKENS[0], Used(1, END, how), END) for how in hows))
    assert forgotten(database, "198.51.100.1", "curl") == Forgetting(1, addresses=0)
    with psycopg.connect(database.owner, autocommit=True) as owner:
        told = owner.execute(
            "SELECT convert_from(state, 'UTF8')::jsonb -> 'presentation' FROM ledger.events "
            "WHERE topic LIKE '%.used.%' ORDER BY notification_id"
        ).fetchall()
    assert [how for (how,) in told] == [{"door": "scim"}, {"door": "scim", "user_agent": "curl/8"}]


def test_not_while_a_service_runs(database: Database) -> None:
    given(database, *facts(USED))
    with (
        psycopg.connect(database.app, application_name="scim-ledger"),
        pytest.raises(NotRepairable, match="stop every one"),
    ):
        forgotten(database, "0.0.0.0/0")
