"""What the doctor says of the pepper's keys is what a start says."""

import psycopg
import pytest

from domain.eventstore.peppers.fingerprints import record_pepper
from domain.secret import Pepper
from tests.api.cli.test_commands import refused
from tests.api.doctor.test_doctor import FAILS, KEY, found
from tests.conftest import Database


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (f"{KEY} {KEY}", "key of generation 2 is that of generation 1 again"),
        (f"{KEY} {'n' * 40} {'n' * 40}", "key of generation 3 is that of generation 2 again"),
        (f"{KEY} retired {'n' * 40}", "its key of generation 2 is missing"),
        ("n" * 40, "its key of generation 1 is another"),
    ],
)
def test_keys_that_no_start_takes_fail(database: Database, given: str, said: str) -> None:
    with psycopg.connect(database.app, autocommit=True) as connection:
        record_pepper(connection, Pepper([KEY.encode()]))
    finding = found(database, pepper=given)["pepper generations"]
    assert (finding.status, said in finding.found) == (FAILS, True), finding
    assert finding.remedy
    assert finding.found in refused(database.app, "migrate", SCIM_LEDGER_PEPPER=given)
