"""Sessions of the console in the ledger: what ends an API token ends whatever it signed in for."""

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.api_token.permissions import Permission
from domain.api_token.token import ApiToken
from domain.authority import ApiCall, Operator
from domain.command_handlers.sessions import AT_ONCE
from domain.commands import NewApiToken
from domain.errors import Unauthenticated
from domain.leaks.report import LeakReport
from domain.ledger import TokenLedger
from domain.scim_token.leak import Leak
from domain.secret import Secret
from tests.conftest import Database, Run, open_ledger

MANAGE = Permission.API_TOKENS_MANAGE
MANY: Final = 4 * AT_ONCE
ASK: Final = NewApiToken(uuid4(), None, (MANAGE,), None)


async def signed_in(ledger: TokenLedger) -> tuple[ApiToken, Secret, ApiToken]:
    """An API token with its secret, and a session of it."""
    token, secret = await ledger.create_api_token(NewApiToken(uuid4(), None, (MANAGE,), None))
    session, _ = await ledger.open_session(by=call_of(token))
    return token, secret, session


def call_of(token: ApiToken) -> ApiCall:
    return ApiCall(token.id, digests=[token.digest.value], session_of=token.session_of)


async def is_over(ledger: TokenLedger, token_id: UUID) -> bool:
    return (await ledger.api_token(token_id)).revoked_at is not None


def test_a_revocation_ends_the_sessions_too(database: Database, run: Run) -> None:
    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            token, _, session = await signed_in(ledger)
            _, _, other = await signed_in(ledger)
            await ledger.revoke_api_token(token.id, by=Operator())
            assert await is_over(ledger, session.id)
            assert revoked_by_command(database) == [2], "a crash in between would leave it good"
            assert not await is_over(ledger, other.id)
            with pytest.raises(Unauthenticated):
                await ledger.open_session(by=call_of(token))

    run(main())


def test_a_session_may_revoke_its_own_token_and_ends_with_it(database: Database, run: Run) -> None:
    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            token, _, session = await signed_in(ledger)
            await signed_in(ledger)  # another manager stays
            await ledger.revoke_api_token(token.id, by=call_of(session))
            assert await is_over(ledger, token.id)
            assert await is_over(ledger, session.id)

    run(main())


def test_a_leak_of_the_token_ends_its_sessions(database: Database, run: Run) -> None:
    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            _, secret, session = await signed_in(ledger)
            report = LeakReport(secret, Leak(url="https://example.com/paste", source="test"))
            (answer,) = await ledger.report_leaks([report], by=Operator(), teams=None)
            assert answer is not None
            assert answer.action == "revoked"
            assert await is_over(ledger, session.id)
            assert revoked_by_command(database) == [2]

    run(main())


async def with_many_sessions(
    ledger: TokenLedger, count: int
) -> tuple[ApiToken, Sequence[tuple[ApiToken, Secret]]]:
    """An API token, and what it signed in for."""
    token, *_ = await signed_in(ledger)
    await signed_in(ledger)  # another manager stays
    opened = await asyncio.gather(
        *(ledger.open_session(by=call_of(token)) for _ in range(count - 1))
    )
    return token, opened


def test_many_sessions_end_in_short_commits(database: Database, run: Run) -> None:
    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            token, _ = await with_many_sessions(ledger, MANY)
            await ledger.revoke_api_token(token.id, by=Operator())
            await ledger.sessions_ended()
        ended = revoked_by_command(database)
        assert sum(ended) == 1 + MANY
        assert max(ended) <= 1 + AT_ONCE

    run(main())


def test_none_lets_anybody_in_from_the_revocation_on(database: Database, run: Run) -> None:
    """Also where the process ends before the end of each is on record; a repeat does the rest."""

    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            token, opened = await with_many_sessions(ledger, MANY)
            await ledger.revoke_api_token(token.id, by=Operator())
            await ledger.sessions_ended(within_s=0)
            assert sum(revoked_by_command(database)) < 1 + MANY, "or nothing is tested here"
            for session, secret in opened:
                caller = await ledger.api_token_lookup.find(ledger.pepper.candidates(secret))
                assert caller is not None
                assert (caller.is_good, caller.why_not) == (False, "revoked")
                with pytest.raises(Unauthenticated):
                    await ledger.create_api_token(ASK, by=call_of(session))
            await ledger.revoke_api_token(token.id, by=Operator())
            await ledger.sessions_ended()
            assert sum(revoked_by_command(database)) == 1 + MANY

    run(main())


def test_signing_out_ends_the_session_and_nothing_else(database: Database, run: Run) -> None:
    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            token, _, session = await signed_in(ledger)
            await ledger.close_session(by=call_of(session))
            await ledger.close_session(by=call_of(session))
            assert await is_over(ledger, session.id)
            assert not await is_over(ledger, token.id)

    run(main())


def revoked_by_command(database: Database) -> Sequence[int]:
    """How many API tokens each command revoked."""
    with psycopg.connect(database.owner) as connection:
        rows = connection.execute(
            "SELECT count(*) FROM ledger.events WHERE topic = 'api_token.revoked.v1'"
            " GROUP BY command_id"
        ).fetchall()
    return [count for (count,) in rows]
