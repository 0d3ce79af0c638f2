"""Of several hosts, which one is asked when, for how long, and what is told where none is reached:
for every list of them, however each behaves.
"""

import asyncio
import gc
import selectors
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, cast
from uuid import uuid4

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from domain.postgres.hosts import hosts_in_turn, reach, reach_by, remember

PRIMARY, STANDBY, GONE, SILENT = "primary", "standby", "gone", "silent"
SAYS: Final = {STANDBY: psycopg.errors.ReadOnlySqlTransaction, GONE: psycopg.OperationalError}
TIME_S: Final = 24
"""For all of them; four at most, so that each has six seconds or more."""

HOSTS: Final = st.lists(st.sampled_from([PRIMARY, STANDBY, GONE]), min_size=1, max_size=4)
SLOW_HOSTS: Final = st.lists(
    st.tuples(st.sampled_from([PRIMARY, STANDBY, GONE, SILENT]), st.sampled_from([0, 2, 5])),
    min_size=1,
    max_size=4,
)


class WaitsForNothing(selectors.SelectSelector):
    """Nobody waits for its loop's timers: the clock moves on to the next."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.now += timeout or 0
        return super().select(0)


def in_no_time(main: Callable[[asyncio.AbstractEventLoop], Coroutine[Any, Any, None]]) -> None:
    selector = WaitsForNothing()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    try:
        loop.run_until_complete(main(loop))
    finally:
        loop.close()


def conninfo(count: int) -> str:
    """Of so many hosts, that no other test has reached one of."""
    return f"host={','.join(map(str, range(count)))} dbname={uuid4()}"


def number(host: str) -> int:
    parts = conninfo_to_dict(host)
    return int(cast("str", parts["host"]))


def in_turn(count: int, last: int | None) -> list[int]:
    return sorted(range(count), key=lambda each: each != last)


def expected_error(said: list[str]) -> type[Exception]:
    if STANDBY in said:
        return psycopg.errors.ReadOnlySqlTransaction
    return TimeoutError if said[-1] == SILENT else psycopg.OperationalError


@given(st.lists(HOSTS, min_size=1, max_size=4))
@example([[GONE, PRIMARY, PRIMARY], [PRIMARY, PRIMARY, PRIMARY], [PRIMARY, GONE, GONE]])
@example([[STANDBY, GONE]])
@example([[GONE, GONE, STANDBY]])
@settings(max_examples=50)
def test_the_first_that_lets_us_in_is_reached_and_the_last_one_reached_is_asked_first(
    times: list[list[str]],
) -> None:
    count = len(times[0])
    cluster, last = conninfo(count), None
    for drawn in times:
        hosts = (drawn * count)[:count]
        asked: list[int] = []

        def connect(host: str, hosts: list[str] = hosts, asked: list[int] = asked) -> int:
            asked.append(number(host))
            if hosts[asked[-1]] == PRIMARY:
                return asked[-1]
            raise SAYS[hosts[asked[-1]]]

        order = in_turn(count, last)
        assert [*map(number, hosts_in_turn(cluster))] == order
        found = next((each for each in order if hosts[each] == PRIMARY), None)
        if found is None:
            with pytest.raises(expected_error([hosts[each] for each in order])):
                reach(cluster, connect)
            assert asked == order
        else:
            assert reach(cluster, connect) == found
            assert asked == order[: order.index(found) + 1]
            last = found


@given(SLOW_HOSTS, st.integers(0, 3))
@example([(SILENT, 0), (PRIMARY, 5)], 3)
@example([(SILENT, 0)] * 3 + [(PRIMARY, 5)], 3)
@example([(SILENT, 0), (GONE, 0)], 0)
@example([(GONE, 0), (SILENT, 0)], 0)
@example([(SILENT, 0), (STANDBY, 0), (SILENT, 0)], 0)
@settings(max_examples=50)
def test_none_of_them_uses_up_the_time_of_the_others(
    hosts: list[tuple[str, int]], last: int
) -> None:
    count = len(hosts)
    cluster = conninfo(count)
    last = last if last < count else 0
    remember(cluster, hosts_in_turn(cluster)[last])
    asked: list[int] = []

    async def connect(host: str) -> int:
        asked.append(number(host))
        what, seconds = hosts[asked[-1]]
        await asyncio.sleep(10 * TIME_S if what == SILENT else seconds)
        if what == PRIMARY:
            return asked[-1]
        raise SAYS[what]

    order = in_turn(count, last)
    ends = [each for each in order if hosts[each][0] == PRIMARY][:1]
    tried = order[: order.index(ends[0]) + 1] if ends else order
    took = 0.0
    for place, each in enumerate(tried):
        what, seconds = hosts[each]
        took += (TIME_S - took) / (count - place) if what == SILENT else seconds

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        if ends:
            assert await reach_by(TIME_S, cluster, connect) == ends[0]
            assert number(hosts_in_turn(cluster)[0]) == ends[0]
        else:
            with pytest.raises(expected_error([hosts[each][0] for each in order])):
                await reach_by(TIME_S, cluster, connect)
            assert number(hosts_in_turn(cluster)[0]) == last
        assert asked == tried
        assert loop.time() == pytest.approx(took)

    in_no_time(main)


class Held:
    """What a frame works on, such as a socket."""


@pytest.mark.parametrize("is_waited_for", [False, True])
def test_nothing_is_left_of_what_did_not_succeed(*, is_waited_for: bool) -> None:
    """A service is spared the garbage collector."""
    left: list[weakref.ref[object]] = []

    def refuse(_: str) -> None:
        held, error = Held(), psycopg.OperationalError("connection refused")
        left.extend((weakref.ref(held), weakref.ref(error)))
        raise error

    async def refuse_later(host: str) -> None:
        refuse(host)

    async def main() -> None:
        with suppress(psycopg.OperationalError):
            await reach_by(asyncio.get_running_loop().time() + 5, conninfo(3), refuse_later)

    gc.collect()
    gc.disable()
    try:
        if is_waited_for:
            asyncio.run(main())
        else:
            with suppress(psycopg.OperationalError):
                reach(conninfo(3), refuse)
        assert [ref() for ref in left] == [None] * 6
    finally:
        gc.enable()
