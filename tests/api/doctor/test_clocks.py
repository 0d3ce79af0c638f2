"""What the doctor says of clocks, and of ledger time, which none of them may be right about."""

import re
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from api.doctor import ledger
from api.doctor.finding import Status
from tests.api.doctor.test_doctor import (
    FAILS,
    IS_OK,
    WARNS,
    as_owner,
    found,
)
from tests.conftest import Database, now
from tests.domain.scenario import created
from tests.projections.given_events import record


@pytest.fixture
def connection(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.app, autocommit=True) as opened:
        yield opened


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_wrong_fails(connection: psycopg.Connection, hours: int) -> None:
    finding = ledger.clock(connection, here=lambda: now() + timedelta(hours=hours))
    assert finding.status is FAILS
    assert re.match(r"3(600|599)\.\d s (ahead of|behind) the database's", finding.found)


@pytest.mark.parametrize(
    ("ahead_s", "status"), [(-3.2, FAILS), (-2.5, WARNS), (-1.5, IS_OK), (1.5, IS_OK), (2.2, FAILS)]
)
def test_a_clock_fails_where_requests_are_refused_for_it(
    connection: psycopg.Connection, ahead_s: float, status: Status
) -> None:
    finding = ledger.clock(connection, here=lambda: now() + timedelta(seconds=ahead_s))
    assert finding.status is status


@pytest.mark.parametrize("hours", [-24, 24])
def test_ledger_time_is_not_repaired_by_a_clock_that_may_be_wrong(
    database: Database, connection: psycopg.Connection, hours: int
) -> None:
    record(database, created())
    as_owner(database, "UPDATE ledger.events SET at = clock_timestamp() + interval '1 day'")
    finding = ledger.ledger_time(connection, here=lambda: now() + timedelta(hours=hours))
    assert finding.status is FAILS
    assert "synchronise both clocks (NTP) first" in str(finding.remedy)


def test_a_ledger_that_has_jumped_fails(database: Database) -> None:
    record(database, created())
    assert found(database)["ledger time"].status is IS_OK
    as_owner(database, "UPDATE ledger.events SET at = clock_timestamp() + interval '40 days'")
    finding = found(database)["ledger time"]
    assert finding.status is FAILS
    assert re.match(r"345(6000|5999) s ahead of the database's clock", finding.found)
    assert "scim-ledger repair ledger-time" in str(finding.remedy)
