"""Refusals that name no token: counted in memory, written as tallies,
never lost by a store that is away.
"""

import asyncio
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from api.doors.refusals import MAX_KEYS, RefusalCounter
from domain.errors import Unavailable
from domain.ledger import TokenLedger
from domain.secret import SecretKind, mint
from tests.conftest import Database, Run, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import HandClock
from tests.domain.scenario import MINUTE, T0
from tests.faults.proxy import Fault, open_proxy
from tests.service import RunningService, until

UNKNOWN = mint(SecretKind.SCIM_LIVE, bytes(32)).reveal()


def counter(ledger: TokenLedger, clock: HandClock) -> RefusalCounter:
    return RefusalCounter(ledger, clock=clock, new_id=uuid4)


def tallies(database: Database) -> list[tuple[str, str, str, int, int]]:
    """Reason, door, minute, count and number of events of each tally."""
    with psycopg.connect(database.owner) as connection:
        return connection.execute("""
            SELECT s->>'reason', s->>'door', s->>'minute', (s->>'count')::int, version
            FROM ledger.aggregates JOIN ledger.stream_heads USING (originator_id),
                LATERAL (SELECT convert_from(state, 'UTF8')::json) AS decoded (s)
            WHERE kind = 'refusal_tally' ORDER BY 3, 1, 2
        """).fetchall()


def test_one_tally_per_reason_door_and_minute_however_often_it_is_written(
    database: Database, run: Run
) -> None:
    async def story() -> None:
        clock = HandClock(T0 + timedelta(seconds=7))
        async with open_ledger(database.app) as ledger:
            for process in (counter(ledger, clock), counter(ledger, clock)):
                for _ in range(2):
                    for _ in range(10):
                        process.count("unknown", "scim")
                        process.count("unknown", "nginx")
                    process.count("missing", "scim")
                    await process.flush()
                    assert process.waiting == 0
            clock.advance(MINUTE)
            process.count("unknown", "scim")
            await process.flush()
            await process.flush()
        assert tallies(database) == [
            ("missing", "scim", "2021-08-10T10:00:00Z", 4, 4),
            ("unknown", "nginx", "2021-08-10T10:00:00Z", 40, 4),
            ("unknown", "scim", "2021-08-10T10:00:00Z", 40, 4),
            ("unknown", "scim", "2021-08-10T10:01:00Z", 1, 1),
        ]
        assert_consistent(database)

    run(story())


def test_what_could_not_be_written_is_kept_and_written_once(database: Database, run: Run) -> None:
    async def story() -> None:
        async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as ledger:
            counted = counter(ledger, HandClock(T0))
            counted.count("unknown", "scim")
            proxy.refuse()
            with pytest.raises(Unavailable):
                await counted.flush()
            counted.count("unknown", "scim")
            assert counted.waiting == 2
            proxy.accept()
            await counted.flush()
            assert counted.waiting == 0
        assert tallies(database) == [("unknown", "scim", "2021-08-10T10:00:00Z", 2, 2)]

    run(story())


def test_a_lost_reply_does_not_count_twice(database: Database, run: Run) -> None:
    async def story() -> None:
        async with open_proxy(database.app) as proxy, open_ledger(proxy.conninfo) as ledger:
            counted = counter(ledger, HandClock(T0))
            counted.count("unknown", "scim")
            # the gate tries a command twice by itself
            proxy.strike(Fault.REPLY_LOST, "COMMIT", times=2)
            with pytest.raises(Unavailable):
                await counted.flush()
            proxy.forget()
            assert counted.waiting == 1
            assert tallies(database) == [("unknown", "scim", "2021-08-10T10:00:00Z", 1, 1)]
            await counted.flush()
            assert counted.waiting == 0
        assert tallies(database) == [("unknown", "scim", "2021-08-10T10:00:00Z", 1, 1)]

    run(story())


def test_memory_is_bounded_and_no_count_is_lost(database: Database, run: Run) -> None:
    async def story() -> None:
        clock = HandClock(T0)
        async with open_ledger(database.app) as ledger:
            counted = counter(ledger, clock)
            for _ in range(MAX_KEYS * 2):
                counted.count("unknown", "scim")
                counted.count("missing", "scim")
                clock.advance(MINUTE)
            assert counted.waiting == MAX_KEYS * 4
            assert len(counted._counts) <= MAX_KEYS + 1

    run(story())


def test_a_flood_that_goes_on_is_not_written_all_the_time(database: Database, run: Run) -> None:
    """What comes while something is written waits for the next time,
    or each commit would be an event.
    """

    async def story() -> None:
        async with open_ledger(database.app) as ledger:
            counted = counter(ledger, HandClock(T0))
            flooding = asyncio.create_task(flood(counted))
            try:
                for times in (1, 2):
                    await asyncio.sleep(0)
                    await asyncio.wait_for(counted.flush(), timeout=10)
                    [(_, _, _, _, events)] = tallies(database)
                    assert events == times
                    assert counted.waiting > 0
            finally:
                flooding.cancel()

    async def flood(counted: RefusalCounter) -> None:
        while True:
            counted.count("unknown", "scim")
            await asyncio.sleep(0)

    run(story())


def test_what_is_counted_is_written_at_the_end(database: Database, run: Run) -> None:
    async def story() -> None:
        async with open_ledger(database.app) as ledger:
            counted = counter(ledger, HandClock(T0))
            async with counted.running():
                counted.count("malformed", "verify")
        assert tallies(database) == [("malformed", "verify", "2021-08-10T10:00:00Z", 1, 1)]

    run(story())


def count(service: RunningService, reason: str, door: str) -> int:
    rows = service.query(
        """
        SELECT coalesce(sum((s->>'count')::int), 0) FROM ledger.events,
            LATERAL (SELECT convert_from(state, 'UTF8')::json) AS decoded (s)
        WHERE topic = 'refusal_tally.counted.v1' AND s->>'reason' = %s AND s->>'door' = %s
        """,
        reason,
        door,
    )
    return int(rows[0][0])


@pytest.mark.long
def test_every_door_counts_in_the_running_service(service: RunningService) -> None:
    caller = service.api_token()
    presented = {"missing": None, "malformed": "Bearer scim_live_x", "unknown": f"Bearer {UNKNOWN}"}
    doors = {
        "scim": "/scim/v2/Users",
        "nginx": "/gateway/nginx",
        "forward": "/gateway/forward",
        "envoy": "/gateway/envoy/x",
        "api": "/scim-token",
    }
    asked = [(reason, door) for reason in presented for door in doors]
    asked += [
        (reason, door)
        for reason in ("malformed", "unknown")
        for door in ("verify", "introspect", "revoke")
    ]
    before = {pair: count(service, *pair) for pair in asked}
    for _ in range(3):
        for authorization in presented.values():
            headers = {} if authorization is None else {"Authorization": authorization}
            for path in doors.values():
                assert service.client.get(path, headers=headers).status_code == 401
        for token in ("scim_live_x", UNKNOWN):
            assert service.client.post("/verify", auth=caller, json={"token": token}).is_success
            assert service.client.post("/introspect", auth=caller, data={"token": token}).is_success
            assert service.client.post("/revoke", data={"token": token}).is_success
    until(
        lambda: all(count(service, *pair) >= before[pair] + 3 for pair in asked),
        timeout_s=15,
        what="writing the tallies",
    )
