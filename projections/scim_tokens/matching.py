"""Find the tokens that conditions choose, by short walks along an index: each reads so many rows
of it at most, however few are chosen, so that a million tokens cost many short statements and not
one long one.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.eventstore.lookups.page_end import PageEnd
from domain.postgres.read_pool import ReadPool
from domain.scim_token.conditions import TokenConditions
from projections.audit_trail import view as audit_trail
from projections.described import Instant, rfc3339_or_none
from projections.follow.wake_ups import NOBODY, Waker
from projections.scim_tokens import view as scim_tokens
from projections.scim_tokens.lifetimes import IS_EXCEEDED, allowed
from projections.scim_tokens.walk import ORDER, behind
from projections.view_reader import ViewReader

STEP: Final = 5000
"""Rows of an index that one statement walks past."""


class ChosenToken(msgspec.Struct, frozen=True):
    """What is told of a token that is about to be revoked, or was."""

    id: UUID
    team_id: UUID
    name: str
    last_used_at: Instant | None


class TokenMatches:
    """Reads of the view `scim_tokens` for many revocations at once."""

    def __init__(self, pool: ReadPool, *, waker: Waker = NOBODY) -> None:
        self._view = ViewReader(pool, scim_tokens.PROJECTION, waker=waker)
        self._trail = ViewReader(pool, audit_trail.PROJECTION, waker=waker)

    async def walk(
        self,
        where: TokenConditions,
        *,
        teams: Sequence[UUID] | None,
        ledger_head: int,
    ) -> AsyncIterator[Sequence[UUID]]:
        """The tokens that are not revoked and meet all conditions, a stretch at a time.

        teams: the caller's, None for all. Each stretch is newest first.
        """
        for index in indexes(where, teams):
            after: PageEnd | None = None
            while True:
                select, parameters = statement(where, index, teams=teams, after=after)
                ((chosen, *last),) = await self._view.rows(
                    select, parameters, ledger_head=ledger_head
                )
                if chosen:
                    yield chosen
                if last[0] is None:
                    break
                after = PageEnd(*last)

    async def revoked_for(
        self, cause: UUID, *, limit: int, ledger_head: int
    ) -> tuple[int, Sequence[UUID]]:
        """How many tokens were revoked for a cause so far, and the first of them."""
        select = (
            f"SELECT true, count(*), (array_agg(token_id))[:{limit}] FROM (SELECT token_id "
            "FROM {table} WHERE cause = %s ORDER BY position) revoked"
        )
        ((count, first),) = await self._trail.rows(select, [cause], ledger_head=ledger_head)
        return count, first or ()

    async def told(self, ids: Sequence[UUID], *, ledger_head: int) -> Sequence[ChosenToken]:
        """What is told of some tokens, newest first, revoked or not."""
        select = (
            "SELECT true, id, team_id, name, last_used_at FROM {table} WHERE id = ANY(%s) "
            f"{ORDER}"
        )
        rows = await self._view.rows(select, [list(ids)], ledger_head=ledger_head)
        return [
            ChosenToken(id_, team_id, name, rfc3339_or_none(used_at))
            for id_, team_id, name, used_at in rows
        ]


def indexes(where: TokenConditions, teams: Sequence[UUID] | None) -> Sequence[Mapping[str, Any]]:
    """Along what to walk, by the columns that an index begins with and what they equal: one index,
    or that of teams once for each. A foreign team's is never read, not even to count in vain.
    """
    if where.ids is not None:
        return [{"id": list(where.ids)}]
    base = {} if where.created_by is None else {"created_by": where.created_by}
    if where.team_id is not None:
        teams = [where.team_id] if teams is None or where.team_id in teams else []
    return [base] if teams is None else [{"team_id": team, **base} for team in dict.fromkeys(teams)]


def statement(
    where: TokenConditions,
    index: Mapping[str, Any],
    *,
    teams: Sequence[UUID] | None,
    after: PageEnd | None,
) -> tuple[str, Mapping[str, Any]]:
    """SQL for a `ViewReader`, and its parameters: one row, of the tokens that are chosen among the
    next `STEP` of an index, and where those end if there are more.
    """
    parameters: dict[str, Any] = {**index}
    walked = [f"{name} = {'ANY(%(id)s)' if name == 'id' else f'%({name})s'}" for name in index]
    chosen = ["revoked_at IS NULL"]
    if index.keys() <= {"team_id"}:  # the indexes that hold nothing else
        walked += chosen
    bounds, place = behind(after)
    walked += bounds
    parameters |= place
    for name in ("created_before", "unused_since"):
        if (before := getattr(where, name)) is not None:
            parameters[name] = before
            walked.append(f"created_at < %({name})s")
    if where.unused_since is not None:
        chosen.append("(last_used_at IS NULL OR last_used_at < %(unused_since)s)")
    if where.violates_policy:
        chosen.append(IS_EXCEEDED)
        parameters |= allowed(where.longest_lives)
    for name in ("team_id", "created_by"):
        if getattr(where, name) is not None:
            parameters[name] = getattr(where, name)
            chosen.append(f"{name} = %({name})s")
    if teams is not None:
        chosen.append("team_id = ANY(%(teams)s)")
        parameters["teams"] = list(teams)
    select = (
        f"SELECT true, array_agg(id) FILTER (WHERE {' AND '.join(chosen)}), "
        f"(array_agg(created_at))[{STEP}], (array_agg(id))[{STEP}] FROM ("
        f"SELECT * FROM {{table}} WHERE {' AND '.join(walked)} {ORDER} LIMIT {STEP}) walked"
    )
    return select, parameters
