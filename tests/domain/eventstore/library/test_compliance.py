"""The library's compliance suite for recorders, on ours, in a real PostgreSQL: all of it, by name.

What our ledger does otherwise stands in `OTHERWISE`, with the reason and the test of what happens
instead (`test_otherwise.py`). What the suite gains in a later release fails here until it is one or
the other.
"""

import unittest
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import getmembers, isclass
from typing import Any, ClassVar, Final

import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent

from domain.eventstore.library.factory import LedgerFactory
from tests.conftest import Database
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import believing_any_clock
from tests.domain.eventstore.library.librarys_suite import persistence as suite
from tests.domain.eventstore.library.suite_words import (
    ANYWHERE,
    BEGINS,
    BEGINS_ANOTHER,
    ENDS,
    FOLLOWS,
    InTheSuitesWords,
    Word,
)

OTHERWISE: Final = {
    "TrackingRecorderTestCase": "a view's position is moved by its own projection, with its rows",
    "ProcessRecorderTestCase": "an append stores events, never the position of a reader",
    "InfrastructureFactoryTestCase": "no variable of the environment chooses mapper or recorder",
    "TranscoderTestCase": "events are msgspec structs of a closed registry; nothing is transcoded",
}


class OfOurs(suite.RecorderTestCase):
    """The suite on a database of each test's own, which is consistent afterwards."""

    INITIAL_VERSION = 0  # the suite's literals count from 0 where this is not used
    recorder_class: type[InTheSuitesWords] = InTheSuitesWords
    words: ClassVar[Mapping[str, Word]]
    database: Database

    @pytest.fixture(autouse=True)
    def _in_a_database(self, database: Database) -> Iterator[None]:
        self.database = database
        yield
        assert_consistent(database)

    def create_recorder(self) -> Any:
        """The suite's hook."""
        factory = LedgerFactory({LedgerFactory.CONNINFO: believing_any_clock(self.database)})
        self.addCleanup(factory.close)
        return self.recorder_class(factory.datastore, words=self.words)


class WithoutIds(InTheSuitesWords):
    """What the library calls an aggregate recorder has no notification ids to return."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Any:
        super().insert_events(stored_events, **kwargs)


class TestAsAggregateRecorder(OfOurs, suite.AggregateRecorderTestCase):
    recorder_class = WithoutIds
    words: ClassVar = {
        "topic1": BEGINS,
        "topic2": FOLLOWS,
        "topic3": ENDS,
        "topic4": BEGINS_ANOTHER,
    }


class TestAsApplicationRecorder(OfOurs, suite.ApplicationRecorderTestCase):
    words: ClassVar = {
        "topic1": BEGINS,
        "topic2": FOLLOWS,
        "topic3": BEGINS_ANOTHER,
        "topic": ANYWHERE,
    }

    def test_insert_subscribe(self) -> None:
        """Optional in the suite; the library runs it on its recorder for PostgreSQL."""
        self.optional_test_insert_subscribe()


class TestNonInterleavingNotificationIds(OfOurs, suite.NonInterleavingNotificationIDsBaseCase):
    words: ClassVar = {"non-interleaving-test-event": ANYWHERE}


OURS: Final = (
    TestAsAggregateRecorder,
    TestAsApplicationRecorder,
    TestNonInterleavingNotificationIds,
)


def test_the_whole_suite_is_run_or_named_with_its_reason() -> None:
    found = {
        name: case
        for name, case in getmembers(suite, isclass)
        if issubclass(case, unittest.TestCase) and named_tests(case)
    }
    run = {name for name, case in found.items() if any(issubclass(ours, case) for ours in OURS)}
    assert run & OTHERWISE.keys() == set()
    assert found.keys() == run | OTHERWISE.keys()


def test_no_test_of_the_suite_is_overridden_or_left_out() -> None:
    for ours in OURS:
        of_library = next(base for base in ours.__bases__ if base is not OfOurs)
        named = named_tests(of_library)
        assert {name.removeprefix("optional_") for name in named} <= named_tests(ours)
        assert not named & (vars(ours).keys() | vars(OfOurs).keys())


def named_tests(case: type[unittest.TestCase]) -> set[str]:
    return {name for name in dir(case) if name.startswith(("test", "optional_test"))}


class KeepsAHalf(InTheSuitesWords):
    """Stores one event after the other: what is refused in the middle has a first half."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int]:
        return [id_ for event in stored_events for id_ in super().insert_events([event], **kwargs)]


class Forgives(InTheSuitesWords):
    """Takes what is there for a repeat."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int]:
        try:
            return super().insert_events(stored_events, **kwargs)
        except IntegrityError:
            return []


class IgnoresTopics(InTheSuitesWords):
    """Returns notifications of every topic."""

    def select_notifications(self, *arguments: Any, **kwargs: Any) -> Any:
        return super().select_notifications(*arguments, **kwargs | {"topics": ()})


class BeginsAfterTheStart(InTheSuitesWords):
    """Never returns the notification that it was to start with."""

    def select_notifications(self, *arguments: Any, **kwargs: Any) -> Any:
        return super().select_notifications(*arguments, **kwargs | {"inclusive_of_start": False})


class EndsWithWhatThereIs(InTheSuitesWords):
    """Reads a stream from its start, whatever is asked for."""

    def select_events(self, *arguments: Any, **kwargs: Any) -> Any:
        return super().select_events(*arguments, **kwargs | {"gt": None})


@pytest.mark.parametrize(
    ("planted", "case"),
    [
        (KeepsAHalf, TestAsAggregateRecorder),
        (Forgives, TestAsAggregateRecorder),
        (EndsWithWhatThereIs, TestAsAggregateRecorder),
        (IgnoresTopics, TestAsApplicationRecorder),
        (BeginsAfterTheStart, TestAsApplicationRecorder),
    ],
)
def test_the_suite_notices_a_recorder_that_does_not_comply(
    database: Database, planted: type[InTheSuitesWords], case: Callable[[str], OfOurs]
) -> None:
    name = "test_insert_and_select" if case is TestAsAggregateRecorder else "test_insert_select"
    test = case(name)
    test.database = database
    test.recorder_class = planted
    result = test.run()
    assert result is not None
    assert not result.wasSuccessful()
