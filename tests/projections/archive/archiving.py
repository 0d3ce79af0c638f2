"""What the tests of the archive share: a history of days, and a run as the command makes it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg
from hypothesis import strategies as st

from domain.archive.extended import Stretch
from domain.authority import Operator
from domain.event import Event
from domain.ledger import TokenLedger
from domain.scim_token.events import Created, Presentation, Refused, Revoked, Rotated, Used
from domain.secret import secret_id
from projections.archive.extending import Extending, Extent
from tests.conftest import CLOCK_AND_IDS, PEPPER, Database
from tests.domain.scenario import ADA, FIRST, MINUTE, SECOND, T0, TEAM_ID
from tests.projections.history import Fact

HOUR: Final = timedelta(hours=1)
TOKENS: Final = tuple(UUID(int=number) for number in (1, 2))
SOURCES: Final = ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", None)
OPERATOR: Final = Operator(name="root@db1")

Step = tuple[int, str, timedelta, str | None, int]
"""Which token, what happens, how much later, from where, and how often."""

STEPS: Final = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["used"] * 8 + ["refused"] * 3 + ["rotated", "revoked"]),
        st.sampled_from([timedelta(0)] * 3 + [MINUTE, 25 * MINUTE, HOUR, 26 * HOUR]),
        st.sampled_from(SOURCES),
        st.integers(1, 5),
    ),
    min_size=1,
    max_size=30,
)


def facts(steps: Sequence[Step]) -> list[Fact]:
    """Two tokens, and what happens to them; one with two secrets is used by either."""
    at, rotated, revoked = T0, set[UUID](), set[UUID]()
    found: list[Fact] = [
        (id_, Created(TEAM_ID, "Okta", ADA, _digest(id_, is_first=True), None), at)
        for id_ in TOKENS
    ]
    for number, kind, later, source, count in steps:
        at, token = at + later, TOKENS[number]
        how = Presentation(door="scim", source=source)
        secret = secret_id(_digest(token, is_first=token not in rotated or count % 2 == 0).value)
        event: Event
        if kind == "refused" or token in revoked:
            event = Refused("revoked" if token in revoked else "network", how, secret)
        elif kind == "used":
            event = Used(count, at, how, (secret, None)[count % 5 == 4])
        elif kind == "rotated" and token not in rotated:
            event = Rotated(ADA, _digest(token, is_first=False), at + 48 * HOUR)
            rotated.add(token)
        else:
            event = Revoked(ADA, None)
            revoked.add(token)
        found.append((token, event, at))
    return found


def _digest(token: UUID, *, is_first: bool) -> Any:
    made = FIRST if is_first else SECOND
    return type(made)(bytes([token.int]) + made.value[1:], 1)


def recorder(database: Database) -> Callable[[Stretch], None]:
    """Stores that a stretch is archived, as the command does."""

    async def record(stretch: Stretch) -> None:
        async with TokenLedger(database.app, pepper=PEPPER, clock_and_ids=CLOCK_AND_IDS) as ledger:
            await ledger.extend_archive(stretch, by=OPERATOR)

    return lambda stretch: asyncio.run(record(stretch))


@contextmanager
def extending(database: Database, directory: Path) -> Iterator[Extending]:
    with (
        psycopg.connect(database.app, autocommit=True) as app,
        psycopg.connect(database.owner, autocommit=True) as owner,
    ):
        yield Extending(app, owner, directory, recorder(database))


def archive(database: Database, directory: Path, before: datetime) -> Extent:
    """One run."""
    with extending(database, directory) as run:
        return run.run(before)
