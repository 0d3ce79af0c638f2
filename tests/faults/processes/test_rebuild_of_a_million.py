"""A million events: views rebuilt under load,
rebuilds and the projections process killed at random moments.

Whatever is killed, readers find the old view or the new one, and in the end what a clean replay
leads to.
"""

import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import pytest

from domain.secret import Pepper
from projections.follow import locks
from projections.follow.positions import all_positions
from projections.rebuild import compare
from projections.registry import PROJECTIONS
from tests.benchmarks.seed import TEAM_SIZE, Seeded, seed
from tests.conftest import Database, new_database
from tests.faults.own_server import process_tree, send
from tests.faults.walks import Known, Walks
from tests.patience import patient
from tests.service import COMMAND, PEPPER_KEY, running_service, service_environment, until

__all__ = ["patient"]

pytestmark = pytest.mark.slow

TOKENS: Final = 100_000
USES_EACH: Final = 9
EVENTS: Final = TOKENS * (1 + USES_EACH)
NAMES: Final = [projection.name for projection in PROJECTIONS]
KILLS_EACH: Final = 3
KILLS: Final = 12


@dataclass(frozen=True)
class Million:
    """A ledger of a million events: what its views hold,
    and how many seconds a rebuild of each takes.
    """

    database: Database
    seeded: Seeded
    digests: Mapping[str, str]
    rebuilt_s: Mapping[str, float]


@pytest.fixture(scope="module")
def million(server: str) -> Iterator[Million]:
    """Seeded once; every test leaves the views as they were, and may add events."""
    with new_database(server) as database:
        pepper = Pepper([PEPPER_KEY.encode()])
        seeded = seed(
            database.owner, pepper=pepper, tokens=TOKENS, uses_each=USES_EACH, secrets=1000
        )
        rebuilt_s = {}
        for name in NAMES:
            began = time.monotonic()
            assert rebuilding(database, name).wait(300) == 0
            rebuilt_s[name] = time.monotonic() - began
        yield Million(database, seeded, digests(database), rebuilt_s)


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_rebuild_leaves_the_old_view_or_the_new(million: Million, name: str) -> None:
    luck = random.Random(name)
    before = live_versions(million.database)
    for _ in range(KILLS_EACH):
        process = rebuilding(million.database, name)
        with suppress(subprocess.TimeoutExpired):
            process.wait(luck.uniform(0, million.rebuilt_s[name]))
        kill(process)
        until_free(million.database)
        assert digests(million.database) == million.digests
    assert rebuilding(million.database, name).wait(300) == 0
    command(million.database, "drop-old")
    assert digests(million.database) == million.digests
    after = live_versions(million.database)
    assert after == before | {name: after[name]}
    assert after[name] > before[name]


def test_the_killed_projections_process_goes_on_where_its_views_are(million: Million) -> None:
    """It follows from the first event on, and is killed every second or so
    until it has caught up.
    """
    luck = random.Random(20210810)
    kills = 0
    with running_service(million.database) as service:
        with psycopg.connect(million.database.owner) as owner:
            for name, version in live_versions(million.database).items():
                owner.execute(f"TRUNCATE views.{name}_v{version}".encode())
            owner.execute("UPDATE ledger.projection_positions SET position = 0 WHERE role = 'live'")
        before = service.program_pids()["projections"]
        deadline = time.monotonic() + 900
        while lag(million.database):
            assert time.monotonic() < deadline, lag(million.database)
            if kills < KILLS:
                time.sleep(luck.uniform(0.2, 2.0))
                send([before], signal.SIGKILL)
                kills += 1
                until(
                    lambda: service.program_pids()["projections"] != before,  # noqa: B023
                    timeout_s=30,
                    what="another",
                )
                before = service.program_pids()["projections"]
            else:
                time.sleep(0.2)
    assert kills == KILLS, "it was too quick for its death"
    assert digests(million.database) == million.digests


def test_nobody_notices_rebuilds_of_all_views_nor_their_deaths(million: Million) -> None:
    """Under load, with the service's own process taking up what a killed one left behind."""
    luck = random.Random(20210810)
    database = million.database
    environment = {"SCIM_LEDGER_RATE_PER_SOURCE": "0"}
    with running_service(database, environment=environment) as service:
        before = live_versions(database)
        walks = Walks(service, known=known(million.seeded))
        with walks.running():
            assert rebuilding(database, "--all").wait(900) == 0
            for name in NAMES:
                process = rebuilding(database, name)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(luck.uniform(0, 1.5 * million.rebuilt_s[name]))
                kill(process)
            until(
                lambda: not is_underway(database),
                timeout_s=300,
                what="the end of what was left behind",
            )
            done = walks.walks
        assert done > 10
        after = live_versions(database)
        assert all(after[name] > before[name] for name in NAMES)
    assert command(database, "verify") == [
        {"name": name, "is_good": True, "difference": None} for name in NAMES
    ]


def known(seeded: Seeded) -> list[Known]:
    """The tokens whose secrets are known: evenly spread over all."""
    every = len(seeded.token_ids) // len(seeded.secrets)
    numbers = range(0, len(seeded.token_ids), every)
    return [
        (seeded.token_ids[number], seeded.team_ids[number // TEAM_SIZE], secret.reveal())
        for number, secret in zip(numbers, seeded.secrets, strict=True)
    ]


def rebuilding(database: Database, which: str) -> "subprocess.Popen[bytes]":
    """`scim-ledger projections rebuild`, started. which: a name, or --all."""
    return subprocess.Popen(
        [COMMAND, "projections", "rebuild", which],
        env=service_environment(database.app),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def command(database: Database, *arguments: str) -> Any:
    """What another `scim-ledger projections` command tells."""
    argv = [COMMAND, "projections", *arguments, "--json"]
    done = subprocess.run(
        argv, env=service_environment(database.app), capture_output=True, check=True, timeout=600
    )
    return json.loads(done.stdout)


def kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        send(process_tree(process.pid), signal.SIGKILL)
    process.wait()


def digests(database: Database) -> dict[str, str]:
    """Of the live version of each view."""
    with psycopg.connect(database.app, autocommit=True) as connection:
        versions = live_versions(database)
        return {
            each.name: compare.digest(connection, each, versions[each.name]) for each in PROJECTIONS
        }


def live_versions(database: Database) -> dict[str, int]:
    """Exactly one of each view."""
    with psycopg.connect(database.app) as connection:
        live = [at for at in all_positions(connection) if at.role == "live"]
    assert sorted(at.name for at in live) == sorted(NAMES)
    return {at.name: at.version for at in live}


def lag(database: Database) -> int:
    """Of the view that is furthest behind."""
    with psycopg.connect(database.app) as connection:
        live = [at for at in all_positions(connection) if at.role == "live"]
    assert [at.error for at in live] == [None] * len(NAMES)
    return max(at.lag for at in live)


def is_underway(database: Database) -> bool:
    with psycopg.connect(database.app) as connection:
        rows = connection.execute(
            "SELECT 1 FROM ledger.projection_rebuilds WHERE finished_at IS NULL"
        )
        return bool(rows.fetchall())


def until_free(database: Database) -> None:
    """Until the database has noticed that whoever rebuilt is gone."""

    def is_free() -> bool:
        with psycopg.connect(database.app, autocommit=True) as connection:
            return all(locks.try_lock(connection, locks.REBUILD, each) for each in PROJECTIONS)

    until(is_free, timeout_s=60, what="the end of a killed rebuild's session")
