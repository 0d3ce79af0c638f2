"""What our ledger does otherwise than the library's recorder, by intention, and what it does then.

The reasons stand in `domain/eventstore/library/README.md`.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.persistence import (
    IntegrityError,
    NotSupportedError,
    StoredEvent,
    Tracking,
)

from domain.event import Recorded
from domain.eventstore.event_registry import REGISTRY, UnreadableEvent
from domain.eventstore.library.factory import LedgerFactory
from domain.eventstore.library.mapper import LedgerEvent, LedgerMapper
from domain.eventstore.library.recorder import LedgerRecorder
from domain.scim_token.token import ScimToken
from tests.conftest import Database
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import believing_any_clock
from tests.domain.eventstore.library.test_recorder import ledger_of, stream
from tests.domain.scenario import T0, T1, created, recorded

ENVIRONMENT = {
    "AGGREGATE_CACHE_MAXSIZE": "1000",
    "APPLICATION_RECORDER_TOPIC": "eventsourcing.popo:POPOApplicationRecorder",
    "CIPHER_TOPIC": "nowhere:Cipher",
    "COMPRESSOR_TOPIC": "zlib",
    "CREATE_TABLE": "y",
    "IS_SNAPSHOTTING_ENABLED": "y",
    "MAPPER_TOPIC": "nowhere:Mapper",
    "PERSISTENCE_MODULE": "eventsourcing.popo",
    "POSTGRES_DBNAME": "nowhere",
    "TRANSCODER_TOPIC": "nowhere:Transcoder",
}
"""What the library reads from the environment of a process."""


@pytest.fixture
def factory(database: Database) -> Iterator[LedgerFactory]:
    with closing(LedgerFactory({LedgerFactory.CONNINFO: believing_any_clock(database)})) as made:
        yield made


@pytest.fixture
def recorder(factory: LedgerFactory) -> LedgerRecorder:
    return factory.application_recorder()


def ours(*, version: int = 1, topic: str = "", state: bytes = b"") -> LedgerEvent:
    """The first event of a token, with something wrong about it."""
    stored = LedgerMapper(REGISTRY).to_stored_event(recorded([created()])[0])
    return LedgerEvent(
        originator_id=stored.originator_id,
        originator_version=version,
        topic=topic or stored.topic,
        state=state or stored.state,
        at=stored.at,
        command_id=stored.command_id,
    )


@pytest.mark.parametrize("version", [0, 2, -1])
def test_versions_are_dense_from_1(
    recorder: LedgerRecorder, database: Database, version: int
) -> None:
    with pytest.raises(IntegrityError, match="not the next"):
        recorder.insert_events([ours(version=version)])
    assert assert_consistent(database) == {}


@pytest.mark.parametrize(
    "event",
    [ours(topic="topic1"), ours(topic="builtins:exit"), ours(state=b"{}"), ours(state=b"state1")],
    ids=["unknown topic", "a topic that names code", "fields are missing", "no JSON"],
)
def test_what_the_registry_does_not_hold_is_not_stored(
    recorder: LedgerRecorder, database: Database, event: LedgerEvent
) -> None:
    with pytest.raises(UnreadableEvent):
        recorder.insert_events([event])
    assert assert_consistent(database) == {}


def test_an_event_without_an_instant_and_a_command_is_not_stored(
    recorder: LedgerRecorder, database: Database
) -> None:
    event = ours()
    bare = StoredEvent(uuid4(), 1, event.topic, event.state)
    with pytest.raises(AssertionError):
        recorder.insert_events([bare])
    assert assert_consistent(database) == {}


def test_the_position_of_a_reader_is_not_stored_with_events(
    recorder: LedgerRecorder, database: Database
) -> None:
    with pytest.raises(NotSupportedError, match="tracking"):
        recorder.insert_events([ours()], tracking=Tracking("upstream", 1))
    assert assert_consistent(database) == {}


def test_there_are_no_recorders_of_snapshots_and_positions(factory: LedgerFactory) -> None:
    for make in (factory.aggregate_recorder, factory.tracking_recorder, factory.process_recorder):
        with pytest.raises(NotSupportedError):
            make()


def test_an_append_notifies_nobody(recorder: LedgerRecorder, database: Database) -> None:
    with psycopg.connect(database.owner, autocommit=True) as listener:
        listener.execute(f"LISTEN {recorder.channel_name}")
        listener.execute("LISTEN heard")
        recorder.insert_events([ours()])
        listener.execute("NOTIFY heard")
        assert [n.channel for n in listener.notifies(timeout=10, stop_after=1)] == ["heard"]


def test_the_subscription_yields_what_others_append_later(database: Database) -> None:
    life = stream()
    with (
        ledger_of(database) as ledger,
        ThreadPoolExecutor() as threads,
        ledger.recorder.subscribe() as subscription,
    ):
        for event in life:
            following = threads.submit(next, subscription)
            ledger.save(event)
            assert ledger.mapper.to_domain_event(following.result(timeout=10)) == event


def test_a_subscription_that_waits_is_stopped_by_another_thread(recorder: LedgerRecorder) -> None:
    with ThreadPoolExecutor() as threads, recorder.subscribe() as subscription:
        waiting = threads.submit(list, subscription)
        subscription.stop()
        assert waiting.result(timeout=10) == []


def test_the_environment_of_the_process_changes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    life = stream()
    with ledger_of(database) as ledger:
        ledger.save(*life)
        whole = replayed(ledger.replay(life[0].originator_id))
        assert whole.version == 3
        assert replayed(ledger.replay(life[0].originator_id, until=T1)).version == 2
        assert replayed(ledger.replay(life[0].originator_id, until=T0)).version == 1
        assert replayed(ledger.replay(life[0].originator_id)) == whole
    assert assert_consistent(database) == {life[0].originator_id: whole}


def replayed(aggregate: object) -> ScimToken:
    assert isinstance(aggregate, ScimToken)
    return aggregate


def test_text_in_the_shape_of_the_librarys_transcodings_comes_back(database: Database) -> None:
    (event, at), id_ = created(name='{"_type_": "uuid_hex", "_data_": "no"}'), uuid4()
    with ledger_of(database) as ledger:
        saved = Recorded(id_, 1, at, UUID(int=1), event)
        ledger.save(saved)
        assert list(ledger.events.get(id_)) == [saved]
