"""A process whose warnings end or stand still is replaced: it beats no more."""

import threading
import time

import pytest

from api.server import heartbeat
from api.server.heartbeat import Pulse, keep_beating_aside
from projections.warnings import thread
from projections.warnings.thread import Telling
from tests.conftest import CLOCK_AND_IDS, Database
from tests.service import until


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats every 50 ms, silent after half a second, still after one."""
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.05)
    monkeypatch.setattr(heartbeat, "SILENT_S", 0.5)
    monkeypatch.setattr(heartbeat, "STARTING_S", 5.0)
    monkeypatch.setattr(thread, "STALLED_AFTER_S", 4.0)


@pytest.fixture
def pulse() -> Pulse:
    made = Pulse()
    made.expect(time.monotonic())
    return made


def watch(telling: Telling, pulse: Pulse) -> None:
    keep_beating_aside(pulse.beat_fd, goes_on=telling.goes_on)


def is_silent(pulse: Pulse) -> bool:
    return pulse.is_silent(time.monotonic())


def stays_heard(pulse: Pulse, *, for_s: float) -> bool:
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        if is_silent(pulse):
            return False
        time.sleep(0.05)
    return True


@pytest.mark.long
@pytest.mark.parametrize("leads", [True, False])
def test_while_warnings_go_on_the_process_is_heard(
    database: Database, pulse: Pulse, leads: bool
) -> None:
    with Telling(database.app, CLOCK_AND_IDS, is_leading=lambda: leads) as telling:
        watch(telling, pulse)
        assert stays_heard(pulse, for_s=6.0)


@pytest.mark.long
def test_without_a_database_it_is_heard_too(pulse: Pulse) -> None:
    away = "postgresql://127.0.0.1:1/none"
    with Telling(away, CLOCK_AND_IDS, is_leading=lambda: True) as telling:
        watch(telling, pulse)
        assert stays_heard(pulse, for_s=6.0)


@pytest.mark.parametrize("leads", [True, False])
def test_they_end_with_the_process(database: Database, leads: bool) -> None:
    with Telling(database.app, CLOCK_AND_IDS, is_leading=lambda: leads) as telling:
        assert telling.goes_on()
    assert not telling.goes_on()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_ended_is_noticed_though_nothing_is_due(
    database: Database, pulse: Pulse
) -> None:
    class Killed(BaseException):
        """What no loop catches."""

    def is_leading() -> bool:
        raise Killed

    with Telling(database.app, CLOCK_AND_IDS, is_leading=is_leading) as telling:
        watch(telling, pulse)
        until(lambda: not telling.goes_on(), what="the end of the thread")
        until(lambda: is_silent(pulse), timeout_s=10, what="silence")


def test_a_thread_that_stands_still_is_noticed_and_one_that_goes_on_again_is_heard(
    database: Database, pulse: Pulse
) -> None:
    going = threading.Event()

    def is_leading() -> bool:
        going.wait(30)
        return True

    with Telling(database.app, CLOCK_AND_IDS, is_leading=is_leading) as telling:
        watch(telling, pulse)
        until(lambda: is_silent(pulse), timeout_s=15, what="silence")
        going.set()
        until(lambda: not is_silent(pulse), what="a beat")
