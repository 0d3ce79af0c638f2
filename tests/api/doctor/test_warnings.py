"""The doctor tells where nobody tells what is due of tokens, and that somebody does again."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import pytest

from projections.warnings.teller import Teller
from tests.api.doctor.test_doctor import FAILS, IS_OK, found
from tests.conftest import CLOCK_AND_IDS, Database, catch_up, now
from tests.domain.scenario import Given, created, rotated, used
from tests.projections.given_events import record
from tests.turns import by_turns

DAY: Final = timedelta(days=1)


@pytest.mark.parametrize(
    "life",
    by_turns(
        [
            ((created(now() - 2 * DAY, expires_at=now() + 20 * DAY),),),
            ((created(now() - 29 * DAY), rotated(now() - 24 * DAY, overlap=30 * DAY)),),
            ((created(now() - DAY), used(now() - DAY)),),
        ],
        one_of=3,
    ),
    ids=["its end", "the end of its rotation", "its first use"],
)
def test_that_nobody_tells_what_is_due_is_a_finding_until_somebody_does(
    database: Database, life: Sequence[Given]
) -> None:
    assert found(database)["warnings"].status is IS_OK
    record(database, *life)
    catch_up(database)
    finding = found(database)["warnings"]
    assert (finding.status, "and not told" in finding.found) == (FAILS, True)
    assert finding.remedy is not None

    async def tell() -> None:
        async with Teller(database.app, CLOCK_AND_IDS) as teller:
            await teller.round()

    asyncio.run(tell())
    catch_up(database)
    assert found(database)["warnings"].status is IS_OK
