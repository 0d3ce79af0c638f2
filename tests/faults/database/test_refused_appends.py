"""An append that the database refuses makes a process not ready, until one succeeds."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, LiteralString
from uuid import uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors, sql
from structlog.testing import capture_logs

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import AppendsRefused, StoreUnavailable
from domain.eventstore.append_faults import BELIEVED_S, MIXED_S, RECONNECTED_S, AppendFaults
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from tests.conftest import APP_ROLE, Database, Run, open_ledger
from tests.faults.host import created, presented
from tests.service import running_service, until

LOSES_USES: Final = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE '%ledger.record_uses%' AND pid <> pg_backend_pid()
"""
"""The connection that uses have: it is gone, and not only told to go."""


def test_a_refusal_is_told_until_an_append_succeeds() -> None:
    faults = AppendFaults("uses", now=lambda: 0.0)
    faults.require_none()
    faults.failed(errors.DiskFull())
    with pytest.raises(AppendsRefused, match="its disk is full"):
        faults.require_none()
    faults.worked()
    faults.require_none()


def test_it_is_told_for_a_while_since_who_is_not_ready_is_not_asked() -> None:
    times = iter((0.0, BELIEVED_S, BELIEVED_S + 0.1))
    faults = AppendFaults("uses", now=lambda: next(times))
    faults.failed(errors.IndexCorrupted())
    with pytest.raises(AppendsRefused, match="SQLSTATE XX002"):
        faults.require_none()
    faults.require_none()


def test_that_none_can_be_asked_for_is_told_until_readiness_would_see_it_by_itself() -> None:
    watch = Watch()
    faults = AppendFaults("uses", now=watch)
    with capture_logs() as logged:
        for _ in range(3):
            faults.unreachable(StoreUnavailable("no connection is left"))
            with pytest.raises(StoreUnavailable, match="no connection is left"):
                faults.require_none()
    assert [line["event"] for line in logged] == ["store.unreachable"]
    watch.at += RECONNECTED_S + 0.1
    faults.require_none()


class Watch:
    """A clock that a test moves. at: seconds."""

    at = 0.0

    def __call__(self) -> float:
        return self.at


@given(
    st.lists(
        st.tuples(st.floats(0.01, MIXED_S / 2), st.booleans(), st.booleans()),
        min_size=2, max_size=60,
    )
)  # fmt: skip
def test_a_mixed_load_is_ready_and_has_one_line_of_the_log(
    steps: list[tuple[float, bool, bool]],
) -> None:
    """One works at least every second step; seconds pass before each."""
    watch = Watch()
    faults = AppendFaults("uses", now=watch)
    faults.worked()
    with capture_logs() as logged:
        for seconds, first_fails, second_fails in steps:
            watch.at += seconds
            for is_refused in (first_fails, second_fails, False):
                faults.failed(errors.IndexCorrupted()) if is_refused else faults.worked()
                faults.require_none()
    assert len(logged) <= 2 + 2 * watch.at / BELIEVED_S


def test_when_none_works_any_more_it_is_told_and_the_log_says_when_it_began_and_ended() -> None:
    watch = Watch()
    faults = AppendFaults("uses", now=watch)
    faults.worked()
    with capture_logs() as logged:
        faults.failed(errors.DiskFull())
        faults.require_none()
        watch.at += MIXED_S + 0.1
        with pytest.raises(AppendsRefused):
            faults.require_none()
        for _ in range(100):
            faults.failed(errors.DiskFull())
            faults.worked()
            faults.require_none()
            watch.at += 0.1
        watch.at += BELIEVED_S
        faults.worked()
        faults.worked()
    assert [line["event"] for line in logged] == [
        "store.refuses_appends",
        "store.takes_appends_again",
    ]


@given(
    st.lists(
        st.tuples(st.floats(0.0, BELIEVED_S), st.sampled_from(["commands", "uses"]), st.booleans()),
        max_size=60,
    )
)
def test_uses_speak_for_themselves_and_a_command_for_commands_alone(
    steps: list[tuple[float, str, bool]],
) -> None:
    watch = Watch()
    commands = AppendFaults("commands", now=watch)
    uses = AppendFaults("uses", vouches_for=commands, now=watch)
    without_commands = AppendFaults("uses", now=watch)
    for seconds, lane, works in steps:
        watch.at += seconds
        told = {"commands": [commands], "uses": [uses, without_commands]}[lane]
        for faults in told:
            faults.worked() if works else faults.failed(errors.InsufficientPrivilege())
        assert is_told(uses) == is_told(without_commands)
        if works and lane == "uses":
            assert not is_told(commands)


def is_told(faults: AppendFaults) -> bool:
    try:
        faults.require_none()
    except AppendsRefused:
        return True
    return False


def test_refused_uses_are_told_though_commands_are_executed(database: Database) -> None:
    """A right that uses alone need, and a team that goes on making tokens meanwhile."""
    right = f"EXECUTE ON FUNCTION ledger.record_uses {'{}'} {APP_ROLE}"
    with running_service(database) as service:
        admin = service.api_token()
        token = created(service, admin)
        in_turn = presented(service, token)
        service.query(f"REVOKE {right.format('FROM')}")

        def unready() -> bool:
            created(service, admin)
            assert presented(service, token) == 503
            answer = service.client.get("/readyz")
            return answer.status_code == 503 and "lacks a right" in answer.text

        until(unready, what="a process that is not ready")
        service.query(f"GRANT {right.format('TO')}")
        until(lambda: presented(service, token) == in_turn, what="a use")
        assert service.client.get("/readyz").status_code == 200


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
    faults = AppendFaults("uses")
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


@pytest.mark.parametrize("lane", ["commands", "uses"])
def test_what_either_lane_is_refused_is_told_until_one_of_it_is_stored(
    database: Database, run: Run, lane: str
) -> None:
    async def main() -> None:
        async with open_ledger(database.app) as before, open_ledger(database.app) as ledger:
            new, by = NewScimToken(uuid4(), "Okta"), Operator(uuid4())
            _, secret = await before.create_scim_token(new, by=by)

            async def append() -> None:
                if lane == "commands":
                    await ledger.create_scim_token(new, by=by)
                else:
                    await ledger.authenticate(secret, Presentation(door="scim"))

            with psycopg.connect(database.owner, autocommit=True) as owner:
                owner.execute(f"REVOKE INSERT ON ledger.events FROM {APP_ROLE}".encode())
                with pytest.raises(StoreUnavailable):
                    await append()
                with pytest.raises(AppendsRefused, match="the role lacks a right"):
                    require_none(ledger)
                owner.execute(f"GRANT INSERT ON ledger.events TO {APP_ROLE}".encode())
            await append()
            require_none(ledger)

    run(main())


def require_none(ledger: TokenLedger) -> None:
    for lane in ledger.gate.faults:
        lane.require_none()


def test_a_database_without_a_connection_left_is_told_in_words(database: Database) -> None:
    with running_service(database) as service, psycopg.connect(database.owner) as owner:
        name = sql.Identifier(owner.info.dbname)
        owner.autocommit = True
        owner.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 0").format(name))
        owner.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        answer = service.client.get("/readyz")
        owner.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(name))
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        (problem,) = answer.json()["problems"]
        assert problem.startswith("the database has no connection left: raise max_connections")
        until(lambda: service.client.get("/readyz").status_code == 200, what="readiness")


def test_uses_without_a_connection_are_told_though_reads_have_theirs(database: Database) -> None:
    with running_service(database) as service, psycopg.connect(database.owner) as owner:
        owner.autocommit = True
        token = created(service, service.api_token())
        in_turn = presented(service, token)
        assert in_turn < 300
        limit = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format
        name = sql.Identifier(owner.info.dbname)
        owner.execute(limit(name, sql.Literal(0)))
        owner.execute(LOSES_USES)
        answers = []

        def unready() -> bool:
            assert presented(service, token) == 503
            answers.append(service.client.get("/readyz"))
            return answers[-1].status_code == 503

        until(unready, what="a process that is not ready")
        owner.execute(limit(name, sql.Literal(-1)))
        (problem,) = answers[-1].json()["problems"]
        assert problem.startswith("the database has no connection left")
        until(lambda: presented(service, token) == in_turn, what="a use")
        assert service.client.get("/readyz").status_code == 200


SHUTS_OUT: Final = ("CONNECTION LIMIT", "0", "-1"), ("ALLOW_CONNECTIONS", "false", "true")
"""How a database takes no new connection while those that stand go on, and how it takes them
again; the end of a client's certificate is another way.
"""


@pytest.mark.parametrize("before", ["no use", "a use", "a lost connection"])
@pytest.mark.parametrize("way", SHUTS_OUT, ids=lambda way: way[0])
def test_readiness_says_whether_a_use_would_be_recorded_while_only_reads_are_connected(
    server: str, database: Database, run: Run,
    way: tuple[LiteralString, LiteralString, LiteralString], before: str,
) -> None:  # fmt: skip
    """Asked again and again, also of a process that gets no requests because it is not ready."""
    option, shut, opened = way

    async def main() -> None:
        with (
            psycopg.connect(server, autocommit=True) as admin,
            psycopg.connect(database.owner, autocommit=True) as owner,
        ):
            tell = sql.SQL("ALTER DATABASE {} " + option + " {}").format
            name = sql.Identifier(owner.info.dbname)
            async with open_ledger(database.app) as other, open_ledger(database.app) as ledger:
                _, secret = await other.create_scim_token(
                    NewScimToken(uuid4(), "Okta"), by=Operator(uuid4())
                )

                async def present() -> None:
                    await ledger.authenticate(secret, Presentation(door="scim"))

                await ledger.time()
                if before != "no use":
                    await present()
                admin.execute(tell(name, sql.SQL(shut)))
                if before == "a lost connection":
                    owner.execute(LOSES_USES)
                for _ in range(3):
                    assert await is_good(ledger.require_appends) == (before == "a use")
                assert await is_good(present) == (before == "a use")
                admin.execute(tell(name, sql.SQL(opened)))
                await asyncio.sleep(RECONNECTED_S + 0.1)
                assert await is_good(ledger.require_appends)
                assert await is_good(present)

    run(main())


async def is_good(ask: Callable[[], Awaitable[None]]) -> bool:
    try:
        await ask()
    except StoreUnavailable:
        return False
    return True
