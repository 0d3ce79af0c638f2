"""The role of DATABASE_URL: whatever it is called, and where the views belong to another."""

from collections.abc import Iterator
from typing import Any, Final, LiteralString

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.doctor import ledger
from api.doctor.examine import examine
from api.doctor.finding import Status
from api.settings import Settings
from domain.postgres import migrate
from domain.postgres.sql_file import with_names
from tests.conftest import Database, catch_up, new_database
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


ROLE: Final = "scim_ledger_test_role"
STRANGERS: Final = ("scim_ledger_test_a", "scim_ledger_test_b")
CHANGES: Final = ("UPDATE", "DELETE", "TRUNCATE")
RIGHTS: Final = [
    *(f"{each} on {table}" for table, rights in ledger.NEEDED.items() for each in rights.split()),
    "CREATE on the schema views",
    "EXECUTE on ledger.skip_positions(bigint)",
    "EXECUTE on ledger.require_pepper(bytea[])",
]
"""As the doctor calls them."""
ROLES: Final = st.sampled_from([ROLE, *STRANGERS])


@pytest.fixture(scope="module")
def owner(server: str) -> Iterator[psycopg.Connection[Any]]:
    """A superuser; what is written is rolled back."""
    with new_database(server) as database, psycopg.connect(database.owner) as connection:
        yield connection


def make_roles(owner: psycopg.Connection[Any]) -> None:
    for role in (ROLE, *STRANGERS):
        owner.execute(f"CREATE ROLE {role}".encode())
    owner.execute(with_names(migrate._SQL["app_role_rights"], role=ROLE))


def act_as_role(owner: psycopg.Connection[Any]) -> None:
    owner.execute(f"SET LOCAL ROLE {ROLE}".encode())


@settings(max_examples=60)
@given(
    lacks=st.sets(st.sampled_from(RIGHTS), max_size=4),
    may=st.sets(st.sampled_from(CHANGES)),
    besides=st.sets(st.sampled_from(CHANGES)),
    events_of=st.none() | ROLES,
    acts_as=st.sets(st.sampled_from(STRANGERS)),
)
def test_a_role_lacks_what_it_was_not_granted_and_may_change_what_it_was(
    owner: psycopg.Connection[Any],
    *,
    lacks: set[str],
    may: set[str],
    besides: set[str],
    events_of: str | None,
    acts_as: set[str],
) -> None:
    """besides: what a stranger may, that counts where the role may act as it."""
    make_roles(owner)
    for right in lacks:
        what, _, where = right.partition(" on ")
        kind = "FUNCTION " if what == "EXECUTE" else ""
        where = where.replace("the schema", "SCHEMA")
        owner.execute(f"REVOKE {what} ON {kind}{where} FROM {ROLE}".encode())
    for right in sorted(may):
        owner.execute(f"GRANT {right} ON ledger.events TO {ROLE}".encode())
    for right in sorted(besides):
        owner.execute(f"GRANT {right} ON ledger.events TO {STRANGERS[0]}".encode())
    for role in sorted(acts_as):
        owner.execute(f"GRANT {role} TO {ROLE}".encode())
    if events_of is not None:
        owner.execute(f"GRANT USAGE, CREATE ON SCHEMA ledger TO {events_of}".encode())
        owner.execute(f"ALTER TABLE ledger.events OWNER TO {events_of}".encode())
    act_as_role(owner)
    needed = [list(ledger.NEEDED), list(ledger.NEEDED.values())]
    lacking = [row[0] for row in owner.execute(ledger._SQL["lacking_rights"], needed)]
    (changing,) = owner.execute(ledger._SQL["rights_on_events"]).fetchall()
    owner.rollback()

    owns = events_of == ROLE or events_of in acts_as
    kept = {right for right in lacks if right.endswith(" on ledger.events")} if owns else set()
    assert sorted(lacking) == sorted(lacks - kept)
    changes = may | (besides if STRANGERS[0] in acts_as else set())
    changes |= set(CHANGES) if owns else set()
    assert changing == (False, owns, [each for each in CHANGES if each in changes])


@settings(max_examples=40)
@given(
    tables=st.dictionaries(st.sampled_from(["one_v1", "two_v1", "three_v1"]), ROLES),
    elsewhere=st.booleans(),
    acts_as=st.sets(st.sampled_from(STRANGERS)),
)
def test_the_views_are_a_strangers_where_the_role_may_not_act_as_it(
    owner: psycopg.Connection[Any],
    *,
    tables: dict[str, str],
    elsewhere: bool,
    acts_as: set[str],
) -> None:
    make_roles(owner)
    for (name,) in owner.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'views'::regnamespace"
    ).fetchall():
        owner.execute(f"ALTER TABLE views.{name} OWNER TO {ROLE}".encode())
    for name, role in tables.items():
        owner.execute(f"CREATE TABLE views.{name} ()".encode())
        owner.execute(f"ALTER TABLE views.{name} OWNER TO {role}".encode())
    if elsewhere:
        owner.execute(
            f"CREATE TABLE public.other (); ALTER TABLE public.other OWNER TO {STRANGERS[0]}"
        )
        owner.execute("CREATE VIEW views.other AS SELECT")
        owner.execute(f"ALTER VIEW views.other OWNER TO {STRANGERS[1]}")
    for role in sorted(acts_as):
        owner.execute(f"GRANT {role} TO {ROLE}".encode())
    act_as_role(owner)
    (found,) = owner.execute(ledger._SQL["owners_of_views"]).fetchall()
    owner.rollback()
    others = sorted({*tables.values()} - {ROLE, *acts_as})
    assert found == (", ".join(others) or None, ROLE)
