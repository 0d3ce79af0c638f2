"""C3: nothing starts on a server that takes no writes;
it says which it is, and so does the doctor.
"""

from collections.abc import Iterator
from itertools import product

import psycopg
import pytest

from api.doctor.examine import examine
from api.doctor.finding import Finding, Status
from api.settings import Settings
from domain.postgres.trouble.unusable_reasons import TAKES_NO_WRITES
from tests.api.cli.test_commands import refused, run
from tests.conftest import Database
from tests.faults.standby import Cluster, cluster
from tests.service import PEPPER_KEY
from tests.turns import by_turns

COMMANDS = [("serve", "--port", "0"), ("migrate",), ("token", "list"), ("api-token", "list")]


@pytest.fixture(scope="module")
def replicated() -> Iterator[Cluster]:
    """A primary and a standby that streams from it."""
    with cluster() as made:
        yield made


def findings(database_url: str) -> dict[str, Finding]:
    told = Settings(database_url=database_url, pepper=PEPPER_KEY, allow_unsafe_database=True)
    return {finding.what: finding for finding in examine(lambda: told)}


@pytest.mark.parametrize(
    "command", by_turns([(command,) for command in COMMANDS], one_of=2), ids=" ".join
)
def test_nothing_starts_on_a_standby(replicated: Cluster, command: tuple[str, ...]) -> None:
    assert refused(replicated.standby.database.app, *command) == TAKES_NO_WRITES


def test_the_doctor_examines_a_standby_and_says_what_it_is(replicated: Cluster) -> None:
    found = findings(replicated.standby.database.app)
    assert (found["writes"].status, found["writes"].found) == (
        Status.FAIL,
        "the server is a standby",
    )
    assert "old views" in found, "it looks at the rest, too"


def test_of_two_hosts_the_one_that_takes_writes_is_used(replicated: Cluster) -> None:
    assert run(replicated.database.app, "migrate").exit_code == 0
    assert findings(replicated.database.app)["writes"].status is Status.OK


def test_the_doctor_sees_a_standby_that_confirms_if_its_role_may(replicated: Cluster) -> None:
    primary = replicated.primary
    primary.configure("synchronous_standby_names", "*")
    try:
        as_owner = findings(primary.database.owner)["synchronous standby"]
        as_app = findings(primary.database.app)["synchronous standby"]
    finally:
        primary.configure("synchronous_standby_names", "")
    assert (as_owner.status, as_owner.found) == (Status.OK, "1 confirm(s) each commit")
    assert (as_app.status, as_app.found) == (
        Status.WARN,
        "demanded, and 1 standby(s) are connected; this role may not see which",
    )


@pytest.mark.parametrize(
    ("command", "scope"),
    by_turns(
        product(COMMANDS, ["ROLE {role} IN DATABASE {database}", "DATABASE {database}"]), one_of=3
    ),
)
def test_nothing_starts_where_the_role_or_database_is_read_only(
    database: Database, command: tuple[str, ...], scope: str
) -> None:
    with psycopg.connect(database.app, autocommit=True) as connection:
        names = {"role": connection.info.user, "database": connection.info.dbname}
    with psycopg.connect(database.owner, autocommit=True) as owner:
        statement = f"ALTER {scope.format(**names)} SET default_transaction_read_only = on"
        owner.execute(statement.encode())
    assert refused(database.app, *command) == TAKES_NO_WRITES
    assert findings(database.app)["writes"].status is Status.FAIL
