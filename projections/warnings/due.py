"""Ask the views what is due: the side of warnings that reads."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from domain.event import Event
from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements
from domain.scim_token import warn
from domain.scim_token.rotation import DEFAULT_RULE, FinishRule, finish, is_silent
from domain.scim_token.token import ScimToken
from domain.scim_token.warnings import (
    UNTIL_ROTATION_END,
    UNUSED_AFTER,
    ScimTokenWarning,
    day_of_use,
    days_left,
)
from domain.warner import Due
from projections.audit_trail import view as audit_trail
from projections.scim_tokens import view as scim_tokens
from projections.scim_tokens.rotations import RotationQueries, Underway
from projections.scim_tokens.walk import NEWEST
from projections.token_sources import view as token_sources
from projections.view_reader import ViewReader

LIMIT: Final = 500
"""Rows that one question reads."""

ROTATIONS: Final = 100
"""Rotations that one question looks at, each from either end of the hours of two secrets."""


class Found(NamedTuple):
    """What one asking gives.

    is_last: whether there is no more behind it: the list ends here, or the walk has come round.
    """

    due: Sequence[Due]
    is_last: bool


Question: TypeAlias = Callable[[datetime, int], Awaitable[Found]]
"""What is due at an instant, once the views have reached a ledger head."""

_SQL: Final = statements("projections.warnings", "due.sql")


class DueWarnings:
    """The questions. What was told is due no more as soon as the views have folded it.

    Nothing is remembered but where the walks have come to.
    """

    def __init__(self, reads: ReadPool, *, finish_rule: FinishRule = DEFAULT_RULE) -> None:
        self._tokens = ViewReader(reads, scim_tokens.PROJECTION)
        self._sources = ViewReader(reads, token_sources.PROJECTION)
        self._pasts = ViewReader(reads, scim_tokens.PROJECTION, audit_trail.PROJECTION)
        self._rotations = RotationQueries(reads)
        self._finish_rule = finish_rule
        self._walked_to = NEWEST
        self._rotations_walked_to = NEWEST
        self.questions: Mapping[str, Question] = {
            "ends": self.ends,
            "rotation_ends": self.rotation_ends,
            "sources": self.sources,
            "silences": self.silences,
            "rotations": self.rotations,
        }

    async def ends(self, at: datetime, ledger_head: int) -> Found:
        """Tokens that end soon or have ended.

        A token may get an end again that it had before: it is warned anew then, at another instant.
        """
        rows = await self._tokens.rows(
            _SQL["ends"], {"at": at, "limit": LIMIT}, ledger_head=ledger_head
        )
        return _listed(
            Due(id_, f"end/{expires_at}/{days_left(expires_at, at)}/{due_at}", warn.of_end)
            for id_, expires_at, due_at in rows
        )

    async def rotation_ends(self, at: datetime, ledger_head: int) -> Found:
        """Rotations that end soon."""
        rows = await self._tokens.rows(
            _SQL["rotation_ends"], {"at": at, "limit": LIMIT}, ledger_head=ledger_head
        )
        return _listed(
            _ending_rotation(token_id, started_at, ends_at, at)
            for token_id, started_at, ends_at in rows
        )

    async def sources(self, _: datetime, ledger_head: int) -> Found:
        """Addresses that are new for their token, the first one included."""
        rows = await self._sources.rows(_SQL["sources"], {"limit": LIMIT}, ledger_head=ledger_head)
        return _listed(_new_source(key, is_first=is_first) for key, is_first in rows)

    async def silences(self, at: datetime, ledger_head: int) -> Found:
        """Those of the next tokens of the walk that were not used for 90 days.

        When each was used last stands in no index, which each use would have to write.
        """
        created_at, id_ = self._walked_to
        rows = await self._pasts.rows(
            _SQL["silences"],
            {
                "at": at,
                "unused_at": at - UNUSED_AFTER,
                "created_at": created_at,
                "id": id_,
                "limit": LIMIT,
            },
            ledger_head=ledger_head,
        )
        is_last = len(rows) < LIMIT
        self._walked_to = NEWEST if is_last else rows[-1][:2]
        due = [_silence(*row) for _, *row in rows if row[1] is not None]
        return Found(due, is_last)

    async def rotations(self, at: datetime, ledger_head: int) -> Found:
        """Of the next rotations of the walk, those that have finished by themselves, and those
        whose older secret is used still.
        """
        rows = await self._rotations.slice(
            *self._rotations_walked_to,
            limit=ROTATIONS,
            ledger_head=ledger_head,
            silent_for=self._finish_rule.silent_for,
        )
        is_last = len(rows) < ROTATIONS
        self._rotations_walked_to = (
            NEWEST if is_last else min((row.created_at, row.token_id) for row in rows)
        )
        finished = [self._finished(row) for row in rows if self._is_ripe(row, at)]
        return Found(finished + [due for row in rows for due in _old_secret(row, at)], is_last)

    def _is_ripe(self, row: Underway, at: datetime) -> bool:
        return row.ends_at <= at or (
            not row.is_suspended
            and is_silent(row.in_use, changed_at=row.changed_at, rule=self._finish_rule)
        )

    def _finished(self, row: Underway) -> Due:
        def decide(token: ScimToken, at: datetime) -> Sequence[Event]:
            return finish(token, row.in_use, at=at, rule=self._finish_rule)

        return Due(row.token_id, f"rotation/{row.started_at}", decide)


def _listed(found: Iterable[Due]) -> Found:
    due = list(found)
    return Found(due, is_last=len(due) < LIMIT)


def _silence(token_id: UUID, since: datetime, resumed_at: datetime | None) -> Due:
    def decide(token: ScimToken, at: datetime) -> list[ScimTokenWarning]:
        return warn.of_silence(token, at, resumed_at=resumed_at)

    return Due(token_id, f"unused/{since}", decide)


def _new_source(key: bytes, *, is_first: bool) -> Due:
    token_id, address = token_sources.token_and_address(key)

    def decide(token: ScimToken, _: datetime) -> list[ScimTokenWarning]:
        return warn.of_source(token, address, is_first=is_first)

    return Due(token_id, f"source/{address}", decide)


def _ending_rotation(token_id: UUID, started_at: datetime, ends_at: datetime, at: datetime) -> Due:
    def decide(token: ScimToken, at: datetime) -> list[ScimTokenWarning]:
        return warn.of_rotation_end(token, started_at, at)

    days = days_left(ends_at, at, of=UNTIL_ROTATION_END)
    return Due(token_id, f"rotation-end/{started_at}/{days}", decide)


def _old_secret(row: Underway, at: datetime) -> list[Due]:
    used_at, started_at = row.older_last_at, row.started_at
    day = day_of_use(started_at, used_at, at=at)
    if used_at is None or day is None or row.ends_at <= at or day <= (row.told_day or 0):
        return []

    def decide(token: ScimToken, at: datetime) -> list[ScimTokenWarning]:
        return warn.of_old_secret(token, started_at, day=day, used_at=used_at, at=at)

    return [Due(row.token_id, f"old-secret/{started_at}/{day}", decide)]
