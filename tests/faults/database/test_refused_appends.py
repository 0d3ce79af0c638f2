"""An append that the database refuses makes a process not ready, until one succeeds."""

import psycopg
import pytest
from psycopg import errors

from domain.errors import AppendsRefused
from domain.eventstore.append_faults import BELIEVED_S, AppendFaults
from tests.conftest import APP_ROLE, Database, Run, open_ledger


def test_a_refusal_is_told_until_an_append_succeeds() -> None:
    faults = AppendFaults(now=lambda: 0.0)
    faults.require_none()
    faults.failed(errors.DiskFull())
    with pytest.raises(AppendsRefused, match="its disk is full"):
        faults.require_none()
    faults.worked()
    faults.require_none()


def test_it_is_told_for_a_while_since_who_is_not_ready_is_not_asked() -> None:
    times = iter((0.0, BELIEVED_S, BELIEVED_S + 0.1))
    faults = AppendFaults(now=lambda: next(times))
    faults.failed(errors.IndexCorrupted())
    with pytest.raises(AppendsRefused, match="SQLSTATE XX002"):
        faults.require_none()
    faults.require_none()


@pytest.mark.parametrize(
    "passing",
    [
        psycopg.OperationalError,
        errors.AdminShutdown,
        errors.ConnectionFailure,
        errors.LockNotAvailable,
        errors.QueryCanceled,
    ],
)
def test_a_lost_connection_or_a_wait_that_ended_is_no_refusal(passing: type[psycopg.Error]) -> None:
    faults = AppendFaults()
    faults.failed(passing())
    faults.require_none()


def test_a_right_that_is_missing_is_told_before_anything_is_refused(
    database: Database, run: Run
) -> None:
    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            await ledger.require_appends()
            with psycopg.connect(database.owner, autocommit=True) as owner:
                owner.execute(f"REVOKE INSERT ON ledger.events FROM {APP_ROLE}".encode())
            with pytest.raises(AppendsRefused, match="the role lacks a right"):
                await ledger.require_appends()

    run(main())
