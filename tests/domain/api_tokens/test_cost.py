"""What is done with one API token costs the same among fifty as among fifty thousand."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from typing import Final
from uuid import uuid4

import psycopg
import pytest

from domain.api_token.permissions import Permission
from domain.api_token.token import ApiToken
from domain.authority import ApiCall, Operator
from domain.commands import NewApiToken
from domain.leaks.report import LeakReport
from domain.ledger import TokenLedger
from domain.scim_token.leak import Leak
from domain.secret import Secret
from tests.conftest import Database, Run, new_database, now, open_ledger
from tests.domain.api_tokens.many import fill
from tests.service import until
from tests.turns import by_turns

Doing = Callable[[TokenLedger, ApiToken, Secret], Awaitable[object]]
FEW: Final = 50
READ: Final = """
    SELECT pg_stat_clear_snapshot(),
        (SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))
            FROM pg_stat_user_tables WHERE schemaname = 'ledger')
        + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = 'ledger'),
        (SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend')
"""
FEW_MORE: Final = 12
"""Entries: what a walk passes on its way to a row depends on what lies beside it."""


def call_of(token: ApiToken) -> ApiCall:
    return ApiCall(token.id, digests=[token.digest.value])


async def who(ledger: TokenLedger, _: ApiToken, secret: Secret) -> None:
    caller = await ledger.api_token_lookup.find(ledger.pepper.candidates(secret))
    assert caller is not None
    await ledger.use_api_token(caller.api_token.id, digests=caller.digests)


async def sign_in_and_out(ledger: TokenLedger, token: ApiToken, _: Secret) -> None:
    session, _ = await ledger.open_session(by=call_of(token))
    await ledger.close_session(by=call_of(session))


async def revoke(ledger: TokenLedger, token: ApiToken, _: Secret) -> None:
    session, _ = await ledger.open_session(by=call_of(token))
    await ledger.revoke_api_token(token.id, by=call_of(token))
    assert (await ledger.api_token(session.id)).revoked_at is not None


async def revoke_another(ledger: TokenLedger, token: ApiToken, _: Secret) -> None:
    other, _ = await ledger.create_api_token(NewApiToken(uuid4(), None, None, None))
    session, _ = await ledger.open_session(by=call_of(token))
    await ledger.revoke_api_token(other.id, by=call_of(session))


async def report(ledger: TokenLedger, _: ApiToken, secret: Secret) -> None:
    found = LeakReport(secret, Leak(url="https://example.com/paste", source="test"))
    (answer,) = await ledger.report_leaks([found], by=Operator(), teams=None)
    assert answer is not None
    assert answer.action == "revoked"


async def look(ledger: TokenLedger, token: ApiToken, _: Secret) -> None:
    assert len(await ledger.good_api_tokens(seen_by=token, at=now(), limit=10)) == 10
    assert len(await ledger.api_tokens(limit=10)) == 10


DOINGS: Final[Mapping[str, Doing]] = {
    "whoami": who,
    "sign in and out": sign_in_and_out,
    "revoke itself with its session": revoke,
    "revoke another, in the console": revoke_another,
    "report its leak": report,
    "look at a page": look,
}


def read(database: Database) -> int:
    """Rows and entries that were read so far, once every session that read has ended."""
    with psycopg.connect(database.owner, autocommit=True) as owner:
        until(lambda: owner.execute(READ).fetchall()[0][2] == 0)
        ((_, count, _),) = owner.execute(READ).fetchall()
    return int(count)


@pytest.fixture(scope="module", params=by_turns([5_000, 50_000], one_of=2))
def ledgers(server: str, request: pytest.FixtureRequest) -> Iterator[Mapping[int, Database]]:
    """One of each size."""
    with new_database(server) as small, new_database(server) as large:
        found = {FEW: small, request.param: large}
        for size, database in found.items():
            fill(database, size, at=now() - timedelta(minutes=1))
        yield found


@pytest.mark.parametrize("doing", by_turns(DOINGS, one_of=3))
def test_it_reads_no_more(ledgers: Mapping[int, Database], run: Run, doing: str) -> None:
    costs: dict[int, int] = {}

    async def main(size: int, database: Database) -> None:
        async with open_ledger(database.app) as ledger:
            ask = NewApiToken(uuid4(), None, tuple(Permission), None)
            token, secret = await ledger.create_api_token(ask)
        before = read(database)
        async with open_ledger(database.app) as ledger:
            await DOINGS[doing](ledger, token, secret)
        costs[size] = read(database) - before

    for size, database in ledgers.items():
        run(main(size, database))
    small, large = costs.values()
    assert 0 < large <= small + FEW_MORE
