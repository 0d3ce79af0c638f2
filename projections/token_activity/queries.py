"""Query what a token did of late: by day, by who presented it, and what happened to it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements
from projections.addresses import address_text
from projections.audit_trail import view as audit_trail
from projections.audit_trail.view import AuditEvent, outcome_of, secret_digits
from projections.described import rfc3339
from projections.follow.wake_ups import NOBODY, Waker
from projections.usage import view as usage
from projections.usage.queries import DAYS, days_parameters, uses_by_day
from projections.view_reader import ViewReader

NEWEST_USES: Final = 500
"""Rows of uses whose presenters are told: what a token of any age costs."""
PRESENTERS: Final = 12
FACTS: Final = 40


_SQL: Final = statements("projections.token_activity", "activity.sql")
_ACTIVITY: Final = _SQL["activity"].replace("{days}", DAYS)


class Presenter(msgspec.Struct, frozen=True):
    """Who presented a token: at which door, from which address, under which name.

    uses: among the newest ones.
    """

    door: str | None
    source: str | None
    user_agent: str | None
    uses: int
    last_used_at: datetime


class Activity(msgspec.Struct, frozen=True):
    """days: uses of each day, the last one today. presenters, facts: the newest first."""

    days: Sequence[int]
    presenters: Sequence[Presenter]
    facts: Sequence[AuditEvent]


class ActivityQueries:
    """Reads of the views `usage` and `audit_trail`."""

    def __init__(self, pool: ReadPool, *, waker: Waker = NOBODY) -> None:
        self._view = ViewReader(pool, usage.PROJECTION, audit_trail.PROJECTION, waker=waker)

    async def of_token(
        self,
        token_id: UUID,
        *,
        days: int,
        to_at: datetime,
        ledger_head: int,
        presenters: int = PRESENTERS,
    ) -> Activity:
        """By one statement; of a token that the caller may see.

        days: up to that of `to_at`. presenters: how many at most.
        """
        parameters = {
            **days_parameters([token_id], days=days, to_at=to_at),
            "token": token_id,
            "uses": NEWEST_USES,
            "presenters": presenters,
            "facts": FACTS,
        }
        rows = await self._view.rows(_ACTIVITY, parameters, ledger_head=ledger_head)
        told: dict[str, list[Any]] = {"day": [], "presenter": [], "fact": []}
        for part, row in rows:
            told[part].append(row)
        counted = [(token_id.bytes, row["day"], row["uses"]) for row in told["day"]]
        return Activity(
            uses_by_day(counted, [token_id], days=days, to_at=to_at)[token_id],
            [msgspec.convert(_spelled(row), Presenter) for row in told["presenter"]],
            [_fact(row) for row in told["fact"]],
        )


def _fact(row: dict[str, Any]) -> AuditEvent:
    """The documented fact from a row as JSON."""
    told = {
        "at": rfc3339(datetime.fromisoformat(row["at"])),
        "outcome": outcome_of(row["kind"]),
        "secret": secret_digits(row["secret"]),
    }
    return msgspec.convert({**_spelled(row), **told}, AuditEvent)


def _spelled(row: dict[str, Any]) -> dict[str, Any]:
    """Its address as every other answer spells it, which is not always the database's way."""
    return {**row, "source": address_text(row["source"]) or None}
