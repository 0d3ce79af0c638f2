"""Revoke many SCIM tokens by one request: choose them by the view, then give one command for a few
at a time, so that nobody else's append waits for long.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from domain.authority import Authority
from domain.commands import CommandKey
from domain.errors import StoreUnavailable
from domain.eventstore.policies import longest_lives
from domain.ledger import TokenLedger
from domain.scim_token.conditions import TokenConditions
from projections.follow.ledger_head import LedgerHeadWatch
from projections.scim_tokens.matching import ChosenToken, TokenMatches

BATCH: Final = 50
"""Tokens of one commit: what holds the append lock for a few milliseconds."""
REST: Final = 3.0
"""How long the others have the ledger to themselves, in times of what a commit took."""
TOLD_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class BulkRevocation:
    """What is asked for. by: on whose word. teams: those that it may touch, None for all.

    key: of the request; repeated with it, the request goes on where it was.
    ledger_head: at the request's arrival.
    """

    where: TokenConditions
    reason: str | None
    by: Authority
    teams: Sequence[UUID] | None
    key: CommandKey
    ledger_head: int


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """matched, revoked: how many tokens. told: the first of those that matched, newest first."""

    matched: int
    revoked: int
    told: Sequence[ChosenToken]


class BulkRevoker:
    """Revokes many tokens for one cause, or says which it would."""

    def __init__(
        self,
        ledger: TokenLedger,
        matches: TokenMatches,
        heads: LedgerHeadWatch,
    ) -> None:
        self._ledger = ledger
        self._matches = matches
        self._heads = heads

    async def rehearse(self, ask: BulkRevocation, *, within_s: float) -> BulkOutcome:
        """What `revoke` would revoke. Raises Unavailable, as that does."""
        deadline = asyncio.get_running_loop().time() + within_s
        count, first = 0, list[UUID]()
        where = await self._judged(ask)
        async for ids in self._matches.walk(where, teams=ask.teams, ledger_head=ask.ledger_head):
            self._require_time(deadline)
            count += len(ids)
            first += ids[: TOLD_MAX - len(first)]
        return BulkOutcome(count, 0, await self._matches.told(first, ledger_head=ask.ledger_head))

    async def revoke(self, ask: BulkRevocation, *, within_s: float) -> BulkOutcome:
        """Revoke all that match, for the cause `ask.key.id`, each once however often it is asked.

        Raises Unavailable after `within_s`, or when the process ends: what is done stays done, and
        a repeat with the same key does the rest. Raises CommandIdReused.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        cause = ask.key.id
        began_at = await self._ledger.begin_revocations(by=ask.by, key=ask.key)
        where = _of_then(await self._judged(ask), began_at)
        # What a process did that died meanwhile was committed before that, or never will be.
        ledger_head = await self._heads.now()
        done, first = await self._matches.revoked_for(
            cause, limit=TOLD_MAX, ledger_head=ledger_head
        )
        matched, revoked, first = done, done, list(first)
        async for ids in self._matches.walk(where, teams=ask.teams, ledger_head=ledger_head):
            matched += len(ids)
            first += ids[: TOLD_MAX - len(first)]
            for start in range(0, len(ids), BATCH):
                self._require_time(deadline)
                began = loop.time()
                revoked += await self._ledger.revoke_scim_tokens(
                    ids[start : start + BATCH], where, by=ask.by, reason=ask.reason, cause=cause
                )
                await asyncio.sleep(REST * (loop.time() - began))
        if revoked < matched:  # some were used meanwhile, or revoked: perhaps for this cause
            revoked, _ = await self._matches.revoked_for(
                cause, limit=0, ledger_head=await self._heads.now()
            )
        return BulkOutcome(
            matched, revoked, await self._matches.told(first, ledger_head=ledger_head)
        )

    async def _judged(self, ask: BulkRevocation) -> TokenConditions:
        """The conditions, with what the policies say that are in force now."""
        if not ask.where.violates_policy:
            return ask.where
        lives = await longest_lives(self._ledger.reads, ask.teams)
        return replace(ask.where, longest_lives=lives)

    def _require_time(self, deadline: float) -> None:
        if asyncio.get_running_loop().time() > deadline or self._heads.is_leaving:
            raise StoreUnavailable("more is to be done than the time was enough for")


def _of_then(where: TokenConditions, began_at: datetime) -> TokenConditions:
    """The conditions, for tokens that were there when the request was made first."""
    end = began_at + timedelta(milliseconds=1)
    before = end if where.created_before is None else min(where.created_before, end)
    return replace(where, created_before=before)
