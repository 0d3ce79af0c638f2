"""The role of DATABASE_URL: whatever it is called, and where the views belong to another."""

from typing import Final, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.doctor.examine import examine
from api.doctor.finding import Status
from api.settings import Settings
from tests.conftest import Database, catch_up
from tests.service import PEPPER_KEY

OTHER: Final = sql.Identifier("scim_ledger_migrates")
GRANTS: Final[tuple[LiteralString, ...]] = (
    "GRANT USAGE ON SCHEMA ledger TO {}",
    "GRANT USAGE, CREATE ON SCHEMA views TO {}",
    "GRANT ALL ON ALL TABLES IN SCHEMA ledger TO {}",
    "GRANT ALL ON ALL SEQUENCES IN SCHEMA ledger TO {}",
    "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ledger TO {}",
)


@pytest.mark.parametrize("is_of_the_ledger", [True, False], ids=["owner", "stranger"])
def test_views_of_another_role_are_one_failure_with_the_remedy(
    database: Database, *, is_of_the_ledger: bool
) -> None:
    """The owner's URL was given where the service's belongs."""
    catch_up(database)
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN").format(OTHER))
        try:
            for statement in GRANTS:
                owner.execute(sql.SQL(statement).format(OTHER))
            if is_of_the_ledger:
                owner.execute(sql.SQL("ALTER TABLE ledger.events OWNER TO {}").format(OTHER))
            url = make_conninfo(database.app, user="scim_ledger_migrates")
            settings = Settings(database_url=url, pepper=PEPPER_KEY, allow_unsafe_database=True)
            (finding,) = (each for each in examine(lambda: settings) if each.what == "rights")
        finally:
            owner.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(OTHER))
            owner.execute(sql.SQL("DROP OWNED BY {}").format(OTHER))
            owner.execute(sql.SQL("DROP ROLE {}").format(OTHER))
    role = conninfo_to_dict(database.app)["user"]
    assert finding.status is Status.FAIL
    assert finding.found == (
        f"the views belong to the role {role}, and DATABASE_URL names scim_ledger_migrates: "
        "every read is answered 503"
    )
    assert str(finding.remedy).startswith(f"name {role} in DATABASE_URL")


@pytest.mark.parametrize(
    "name", ["Service", "ledger@project.iam", "scim ledger", "a,b", 'it"s %s {} \\', "münchen"]
)
def test_a_role_is_examined_whatever_it_is_called(database: Database, name: str) -> None:
    """A managed server calls its users by addresses of mail."""
    role, app = sql.Identifier(name), str(conninfo_to_dict(database.app)["user"])
    with psycopg.connect(database.owner, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        try:
            owner.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(app), role))
            owner.execute(sql.SQL("ALTER ROLE {} SET work_mem = '64kB'").format(role))
            owner.execute(sql.SQL("ALTER ROLE {} SET lock_timeout = 1").format(role))
            url = make_conninfo(database.app, user=name)
            settings = Settings(database_url=url, pepper=PEPPER_KEY, allow_unsafe_database=True)
            found = {each.what: each for each in examine(lambda: settings)}
        finally:
            owner.execute(sql.SQL("DROP ROLE {}").format(role))
    assert "lock_timeout" in found["role settings"].found
    assert "work_mem" not in found["role settings"].found
    assert found["rights"].status is Status.OK
