"""Many tokens are revoked by one request whose worker dies again and again: each is revoked once,
for one cause, and meanwhile nobody waits for long.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.ledger import TokenLedger
from domain.scim_token.token import ScimToken
from domain.secret import Pepper
from tests.benchmarks import wrk
from tests.benchmarks.seed import seed
from tests.conftest import Database
from tests.domain.eventstore.consistency import assert_consistent
from tests.service import PEPPER_KEY, RunningService, running_service, until
from tests.stopwatch import Stopwatch

PATH: Final = "/scim-token/revoke"
APPEND_WAIT_S: Final = 0.1
DOORS_KEEP: Final = 0.7
REVOKED: Final = "SELECT count(*) FROM ledger.events WHERE topic = 'scim_token.revoked.v1'"
MIDDLE: Final = """
    SELECT at FROM ledger.events WHERE originator_version = 1 ORDER BY at OFFSET 100000 LIMIT 1
"""
CAUSES: Final = """
    SELECT originator_id, convert_from(state, 'UTF8')::json->>'cause'
    FROM ledger.events WHERE topic = 'scim_token.revoked.v1'
"""


def revoke_until_answered(
    service: RunningService, where: dict[str, str], *, key: str, caller: httpx.Auth
) -> dict[str, Any]:
    """Ask, and ask again with the same key, as a client does whose connection breaks."""
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        for _ in range(1000):
            try:
                answer = client.post(
                    PATH, auth=caller, json={"where": where}, headers={"Idempotency-Key": key}
                )
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            if answer.status_code != 503:
                assert answer.status_code == 200, answer.text
                found: dict[str, Any] = answer.json()
                return found
        raise AssertionError("never answered")


def kill_on_the_way(service: RunningService, *, tokens: int, kills: int) -> None:
    """SIGKILL to the worker whenever another part of the tokens is revoked."""
    for number in range(1, kills + 1):
        until(
            lambda: service.query(REVOKED)[0][0] >= number * tokens // (kills + 1),  # noqa: B023
            timeout_s=120,
            what="the next part",
        )
        os.kill(service.program_pids()["worker-1"], signal.SIGKILL)


async def some(ledger: TokenLedger, team: UUID, count: int) -> None:
    ask = NewScimToken(team, "Okta")
    await asyncio.gather(
        *(ledger.create_scim_token(ask, by=Operator(uuid4())) for _ in range(count))
    )


def killed_and_repeated(
    service: RunningService, where: dict[str, str], *, tokens: int, kills: int
) -> str:
    """The cause, once all is as it should be."""
    caller, key = service.api_token(), str(uuid4())
    killer = threading.Thread(
        target=kill_on_the_way, args=(service,), kwargs={"tokens": tokens, "kills": kills}
    )
    killer.start()
    try:
        done = revoke_until_answered(service, where, key=key, caller=caller)
    finally:
        killer.join()
    assert (done["matched"], done["revoked"]) == (tokens, tokens)
    assert len(done["result"]) == min(tokens, 1000)
    assert revoke_until_answered(service, where, key=key, caller=caller) == done
    rows = service.query(CAUSES)
    assert len(rows) == len({token_id for token_id, _ in rows}) == tokens
    assert {cause for _, cause in rows} == {done["cause"]}
    return str(done["cause"])


@pytest.mark.long
def test_killed_in_the_middle_and_repeated_it_ends_exact(database: Database) -> None:
    team, other = uuid4(), uuid4()
    with running_service(database) as service:
        service.command(lambda ledger: some(ledger, team, 1000))
        service.command(lambda ledger: some(ledger, other, 5))
        killed_and_repeated(service, {"team_id": str(team)}, tokens=1000, kills=3)
    states = assert_consistent(database)
    tokens = [state for state in states.values() if isinstance(state, ScimToken)]
    assert [token.team_id for token in tokens if token.revoked_at is None] == [other] * 5


@pytest.mark.slow
def test_a_hundred_thousand_killed_twenty_times_end_exact(database: Database) -> None:
    seed(database.owner, pepper=Pepper([PEPPER_KEY.encode()]), tokens=100_000)
    with running_service(database) as service:
        where = {"created_before": f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"}
        killed_and_repeated(service, where, tokens=100_000, kills=20)


# Meanwhile


@contextmanager
def waiting_for_appends(database: Database) -> Iterator[list[float]]:
    """How long each of many appends waits for the lock, in seconds."""
    waits: list[float] = []
    is_over = threading.Event()

    def probe() -> None:
        with psycopg.connect(database.app, autocommit=True) as connection:
            while not is_over.is_set():
                began = time.perf_counter()
                with connection.transaction():
                    connection.execute("SELECT ledger.lock_appends()")
                    waits.append(time.perf_counter() - began)
                time.sleep(0.005)

    prober = threading.Thread(target=probe)
    prober.start()
    try:
        yield waits
    finally:
        is_over.set()
        prober.join()


@pytest.mark.slow
@pytest.mark.skipif(not wrk.is_installed(), reason=wrk.INSTALL)
def test_doors_keep_their_rate_and_no_append_waits_for_long(
    database: Database, tmp_path: Path
) -> None:
    """The older half of all tokens is revoked while the younger is in use."""
    seeded = seed(database.owner, pepper=Pepper([PEPPER_KEY.encode()]), tokens=200_000)
    used = tmp_path / "requests"
    used.write_text(
        "".join(f"GET /gateway/forward {secret.reveal()}\n" for secret in seeded.secrets[5000:])
    )
    unlimited = {"SCIM_LEDGER_RATE_PER_TOKEN": "0", "SCIM_LEDGER_RATE_PER_SOURCE": "0"}
    with running_service(database, workers=2, environment=unlimited) as service:
        ((middle,),) = service.query(MIDDLE)
        where = {"created_before": f"{middle:%Y-%m-%dT%H:%M:%S.%fZ}"}
        caller, done = service.api_token(), dict[str, Any]()
        revoking = threading.Thread(
            target=lambda: done.update(
                revoke_until_answered(service, where, key=str(uuid4()), caller=caller)
            )
        )
        wrk.load(service.url, used, seconds=1)
        alone = [wrk.load(service.url, used) for _ in range(3)]
        watch = Stopwatch()
        with waiting_for_appends(database) as waits:
            revoking.start()
            meanwhile = [wrk.load(service.url, used) for _ in range(3)]
            is_still_on = revoking.is_alive()
            revoking.join()
        took_s = watch.read_s()
    kept = median(each.rate for each in meanwhile) / median(each.rate for each in alone)
    told = (
        f"{done['revoked']} in {took_s:.0f} s, doors keep {kept:.2f} of their rate, "
        f"the longest wait of an append {max(waits) * 1000:.0f} ms"
    )
    print(told)
    assert is_still_on, told
    assert done["revoked"] == done["matched"] > 90_000, told
    assert all(each.refused == each.lost == 0 for each in meanwhile), told
    assert kept >= DOORS_KEEP, told
    assert max(waits) < APPEND_WAIT_S, told
