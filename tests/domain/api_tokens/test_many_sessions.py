"""An API token with thousands of live sessions is revoked at once, and no append waits for long."""

import asyncio
from typing import Final

import pytest

from domain.authority import Operator
from tests.conftest import Database, Run, open_ledger
from tests.domain.test_ledger_sessions import call_of, revoked_by_command, signed_in
from tests.faults.processes.test_bulk_revocation import APPEND_WAIT_S, waiting_for_appends
from tests.stopwatch import Stopwatch

SESSIONS: Final = 5_000
TOGETHER: Final = 500
ANSWERED_S: Final = 1.0


@pytest.mark.slow
def test_five_thousand_sessions_hold_nobody_up(database: Database, run: Run) -> None:
    async def main() -> None:
        async with open_ledger(database.app) as ledger:
            token, *_ = await signed_in(ledger)
            for _ in range(SESSIONS // TOGETHER):
                await asyncio.gather(
                    *(ledger.open_session(by=call_of(token)) for _ in range(TOGETHER))
                )
            with waiting_for_appends(database) as waits:
                watch = Stopwatch()
                await ledger.revoke_api_token(token.id, by=Operator())
                answered_s = watch.read_s()
                await ledger.sessions_ended()
            told = (
                f"answered in {answered_s:.2f} s, all over in {watch.read_s():.1f} s, "
                f"the longest wait of an append {max(waits) * 1000:.0f} ms"
            )
            print(told)
            assert sum(revoked_by_command(database)) == SESSIONS + 2
            assert answered_s < ANSWERED_S, told
            assert max(waits) < APPEND_WAIT_S, told

    run(main())
