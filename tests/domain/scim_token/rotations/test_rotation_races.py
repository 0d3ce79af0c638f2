"""Two processes that rotate, or end a rotation, at once: one wins, the other is told clearly."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import NoRotationUnderway, RotatedTooSoon
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from tests.conftest import Database, open_ledger
from tests.domain.eventstore.consistency import assert_consistent
from tests.turns import by_turns

ADA = Operator(user_id=UUID(int=1))
IDP = Presentation(door="scim")
Command: TypeAlias = Callable[[TokenLedger, UUID], Coroutine[Any, Any, Any]]


def rotate(ledger: TokenLedger, token_id: UUID) -> Coroutine[Any, Any, Any]:
    return ledger.rotate_scim_token(token_id, by=ADA)


def complete(ledger: TokenLedger, token_id: UUID) -> Coroutine[Any, Any, Any]:
    return ledger.complete_rotation(token_id, by=ADA)


def cancel(ledger: TokenLedger, token_id: UUID) -> Coroutine[Any, Any, Any]:
    return ledger.cancel_rotation(token_id, by=ADA)


@pytest.mark.parametrize(
    ("before", "commands", "refusal"),
    by_turns(
        [
            ((), (rotate, rotate), RotatedTooSoon),
            ((rotate,), (complete, cancel), NoRotationUnderway),
            ((rotate,), (complete, complete), NoRotationUnderway),
            ((rotate,), (cancel, cancel), NoRotationUnderway),
        ],
        one_of=2,
    ),
)
def test_one_wins_and_the_other_is_refused(
    database: Database,
    before: tuple[Command, ...],
    commands: tuple[Command, Command],
    refusal: type[Exception],
) -> None:
    async def race(one: TokenLedger, other: TokenLedger) -> None:
        token, first = await one.create_scim_token(NewScimToken(uuid4(), "Okta"), by=ADA)
        secrets = [first, *[(await command(one, token.id))[1] for command in before]]
        answers = await asyncio.gather(
            *(
                command(ledger, token.id)
                for command, ledger in zip(commands, (one, other), strict=True)
            ),
            return_exceptions=True,
        )
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        assert [type(answer) for answer in refused] == [refusal]
        secrets += [answer[1] for answer in answers if isinstance(answer, tuple)]
        good = 0
        for secret in secrets:
            try:
                await other.authenticate(secret, IDP)
            except Exception:  # noqa: BLE001 - whatever it is, it is not let in
                continue
            good += 1
        assert good == (1 if before else 2)

    async def main() -> None:
        async with open_ledger(database.app) as one, open_ledger(database.app) as other:
            for _ in range(20):
                await race(one, other)

    asyncio.run(main())
    assert_consistent(database)
