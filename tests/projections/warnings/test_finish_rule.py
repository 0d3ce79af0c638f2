"""A rotation finishes by the rule that the process was given, and by no other."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import pytest

from domain.scim_token.rotation import DEFAULT_RULE, FinishRule
from domain.scim_token.token import ScimToken
from projections.warnings.teller import Teller
from tests.conftest import Database, Run
from tests.projections.warnings.weeks import ADA, HOUR, weeks

MINUTE: Final = timedelta(minutes=1)
STEP: Final = 15 * MINUTE
"""How often the client calls, which has its newer secret at once."""
RULES: Final = {
    "the default": DEFAULT_RULE,
    "sooner": FinishRule(used_apart=STEP, silent_for=HOUR),
    "silent for longer": FinishRule(used_apart=STEP, silent_for=4 * HOUR),
    "used further apart": FinishRule(used_apart=3 * HOUR, silent_for=HOUR),
}


@pytest.mark.parametrize("name", RULES)
def test_it_finishes_by_the_rule_that_is_given(database: Database, run: Run, name: str) -> None:
    """It begins with an hour, which is how finely the view tells uses apart."""
    rule = RULES[name]
    steps_to_finish = (rule.silent_for + rule.used_apart) // STEP

    async def main() -> Sequence[bool]:
        async with (
            weeks(database) as w,
            Teller(database.app, w.clock.clock_and_ids, finish_rule=rule) as teller,
        ):
            token_id, _ = await w.create()
            _, newer = await w.ledger.rotate_scim_token(token_id, by=ADA)
            is_over = []
            for _ in range(steps_to_finish + 1):
                w.clock.advance(STEP)
                await w.use(newer)
                await w.rounds(teller)
                token = w.ledger.replay(token_id)
                assert isinstance(token, ScimToken)
                is_over.append(token.outgoing is None)
            return is_over

    assert run(main()) == [False] * (steps_to_finish - 1) + [True] * 2
