"""Query the view `scim_tokens`: one token, and pages by filter."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from domain.eventstore.lookups.page_end import PageEnd
from domain.eventstore.policies import longest_lives
from domain.postgres.read_pool import ReadPool
from domain.scim_token.conditions import LongestLives
from projections.follow.wake_ups import NOBODY, Waker
from projections.rows_by_key import RowsByKey
from projections.scim_tokens import view as scim_tokens
from projections.scim_tokens.filters import TokenFilter, conditions, is_by_life
from projections.scim_tokens.lifetimes import (
    IS_EXCEEDED,
    MAY_BE_LIVE,
    MAY_END,
    MAY_END_BEHIND,
    allowed,
    along_lives,
)
from projections.scim_tokens.rotations import RotationQueries
from projections.scim_tokens.view import DOCUMENT
from projections.scim_tokens.walk import ORDER, SHOWN, along, behind, of_teams
from projections.token_sources import view as token_sources
from projections.view_reader import ViewReader


class TokenPage(NamedTuple):
    """documents: rendered token objects, newest first by (created_at, id), as one JSON array.

    next: None on the last page.
    """

    documents: str
    next: PageEnd | None


class _StoredToken(NamedTuple):
    """A token of the view, revoked or not."""

    team_id: UUID
    is_revoked: bool
    may_rotate: bool
    document: str


_page_end_of: Final = msgspec.json.Decoder(PageEnd)
"""Of a document: its instants are whole milliseconds, as the ledger's are."""
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
BETWEEN: Final = ",\n"
"""Between two documents, and nowhere in one: a text of JSON never holds a raw control character."""
_TOKENS: Final = f"""
    SELECT true, id, team_id, revoked_at IS NOT NULL, rotation_ends_at IS NOT NULL, {DOCUMENT}
    FROM {{table}} WHERE id = ANY(%s)
"""


class TokenQueries:
    """Reads of the view `scim_tokens`."""

    def __init__(self, pool: ReadPool, *, waker: Waker = NOBODY) -> None:
        self._pool = pool
        self._view = ViewReader(pool, scim_tokens.PROJECTION, waker=waker)
        self._tokens = RowsByKey(self._view, _TOKENS)
        self._rotations = RotationQueries(pool, waker=waker)
        self._view_and_sources = ViewReader(
            pool, scim_tokens.PROJECTION, token_sources.PROJECTION, waker=waker
        )

    async def is_known(
        self, token_id: UUID, *, teams: Sequence[UUID] | None, ledger_head: int
    ) -> bool:
        """Whether there is such a token of these teams (None for all), revoked or not."""
        return await self._find(token_id, teams, ledger_head) is not None

    async def find(
        self,
        token_id: UUID,
        *,
        teams: Sequence[UUID] | None,
        ledger_head: int,
        at: datetime = EARLIEST,
    ) -> str | None:
        """The document of a token that is not revoked;
        None for missing, foreign and revoked alike.

        at: the instant that the end of a rotation is judged at; of the beginning of time, none has
        ended.
        """
        found = await self._find(token_id, teams, ledger_head)
        if found is None or found.is_revoked:
            return None
        ids = [token_id] if found.may_rotate else []
        (document,) = await self._rotations.told(
            [found.document], ids, at=at, ledger_head=ledger_head
        )
        return document

    async def _find(
        self, token_id: UUID, teams: Sequence[UUID] | None, ledger_head: int
    ) -> _StoredToken | None:
        row = await self._tokens.find(token_id, ledger_head=ledger_head)
        found = None if row is None else _StoredToken(*row)
        return found if found is not None and (teams is None or found.team_id in teams) else None

    async def page(
        self,
        narrow: TokenFilter,
        *,
        after: PageEnd | None,
        limit: int,
        at: datetime,
        ledger_head: int,
    ) -> TokenPage:
        """One page of documents, `limit` at most. at: the instant that expiry is judged at."""
        page, ids = await self.overview(
            narrow, after=after, limit=limit, at=at, ledger_head=ledger_head
        )
        if not ids:
            return page
        stored = page.documents[1:-1].split(BETWEEN)
        told = await self._rotations.told(stored, ids, at=at, ledger_head=ledger_head)
        return TokenPage(f"[{BETWEEN.join(told)}]", page.next)

    async def overview(
        self,
        narrow: TokenFilter,
        *,
        after: PageEnd | None,
        limit: int,
        at: datetime,
        ledger_head: int,
    ) -> tuple[TokenPage, Collection[UUID]]:
        """The same page by one statement: its documents tell of no rotation, but beside them stands
        which of the tokens may be rotating.
        """
        lives = await longest_lives(self._pool, narrow.teams) if narrow.violates_policy else None
        select, parameters = statement(narrow, lives, after=after, limit=limit, at=at)
        view = self._view if narrow.new_source_since is None else self._view_and_sources
        rows = await view.rows(select, parameters, ledger_head=ledger_head)
        ((count, joined, ids),) = rows
        if count <= limit:
            return TokenPage(f"[{joined}]", None), ids or ()
        shown = joined.rpartition(BETWEEN)[0]
        last = shown.rpartition(BETWEEN)[2]
        return TokenPage(f"[{shown}]", _page_end_of.decode(last)), ids or ()


def statement(
    narrow: TokenFilter,
    lives: LongestLives | None = None,
    *,
    after: PageEnd | None,
    limit: int,
    at: datetime,
) -> tuple[str, Mapping[str, Any]]:
    """SQL for a `ViewReader`, and its parameters:
    one row, of one token more than `limit` if any.

    lives: what the policies in force allow, of a filter that asks for what violates them.
    """
    is_of_one_team, parameters = of_teams(narrow.teams)
    parameters |= {"limit": limit + 1, "at": at}
    index, filters = conditions(narrow, parameters)
    bounds, place = behind(after)
    parameters |= place
    if narrow.unused_since is not None:
        bounds.append("created_at < %(unused_since)s")
    if lives is not None:
        parameters |= allowed(lives)
        filters.append(IS_EXCEEDED)
    if is_by_life(narrow):
        newest, spans = _by_life(narrow, lives, bounds, filters, after=after, at=at)
        parameters |= spans
        if narrow.created_by is not None:
            newest = _of_user(index, bounds, filters, newest, is_of_one_team=is_of_one_team)
    elif narrow.new_source_since is None:
        newest = along(index, bounds, filters, is_of_one_team=is_of_one_team)
    else:
        parameters["new_source_since"] = narrow.new_source_since
        newest = _with_new_source(index, bounds, filters, is_of_one_team=is_of_one_team)
    # One value instead of a row each: half the cost of a page of a hundred.
    select = (
        f"SELECT true, count(*), coalesce(string_agg({DOCUMENT}, '{BETWEEN}'), ''), "
        f"array_agg(id) FILTER (WHERE rotation_ends_at > %(at)s) FROM ({newest}) page"
    )
    return select, parameters


def _by_life(
    narrow: TokenFilter,
    lives: LongestLives | None,
    bounds: Sequence[str],
    filters: Sequence[str],
    *,
    after: PageEnd | None,
    at: datetime,
) -> tuple[str, Mapping[str, Any]]:
    """See `along_lives`; and its parameters. Of a user: where their tokens are many."""
    parameters: dict[str, Any] = {}
    bounds, filters = list(bounds), list(filters)
    ends_by = narrow.expires_before
    if narrow.status == "expired":
        ends_by = at if ends_by is None else min(ends_by, at)
    if narrow.status == "active":
        bounds.append(MAY_BE_LIVE)
    if ends_by is not None:
        bounds.insert(0, MAY_END if after is None else MAY_END_BEHIND)
        parameters["ends_by"] = ends_by
    if narrow.created_by is not None:
        bounds.append(_MADE_MANY)
        filters.append(_MADE_BY)
    newest, spans = along_lives(
        bounds, filters, teams=narrow.teams, longer_than=lives, has_end=ends_by is not None
    )
    return newest, {**parameters, **spans}


_MADE_BY: Final = "created_by = %(created_by)s"
_MADE_MANY: Final = f"(SELECT count(*) FROM made) > {token_sources.FEW}"


def _made(*, is_of_one_team: bool | None) -> str:
    """SQL, for WITH: the tokens of a user, up to one more than few; of teams, only theirs, or the
    time would tell what the user made for others.
    """
    team = {True: "team_id = %(team)s AND ", False: "team_id = mine.one AND ", None: ""}
    few = f"LIMIT {token_sources.FEW + 1}"
    made = f"SELECT FROM {{table}} WHERE {team[is_of_one_team]}{_MADE_BY} {ORDER} {few}"
    if is_of_one_team is False:
        each = "unnest(%(teams)s::uuid[]) AS mine (one)"
        made = f"SELECT FROM {each} CROSS JOIN LATERAL ({made}) theirs {few}"
    return f"made AS MATERIALIZED ({made})"


def _of_user(
    index: Sequence[str],
    bounds: Sequence[str],
    filters: Sequence[str],
    by_life: str,
    *,
    is_of_one_team: bool | None,
) -> str:
    """A user's tokens are either few, and each is looked at, or they are met by their lives."""
    few = along(index, [*bounds, f"NOT {_MADE_MANY}"], filters, is_of_one_team=is_of_one_team)
    return _either(_made(is_of_one_team=is_of_one_team), few, by_life)


def _with_new_source(
    index: Sequence[str],
    bounds: Sequence[str],
    filters: Sequence[str],
    *,
    is_of_one_team: bool | None,
) -> str:
    """New addresses are either few, and lead to their tokens, or they are met on the way."""
    any_team = {True: ["team_id = %(team)s"], False: ["team_id = ANY(%(teams)s)"], None: []}[
        is_of_one_team
    ]
    theirs = f"SELECT * FROM {{table}} WHERE {token_sources.IS_ONE_OF_FEW} OFFSET 0"
    of_few = " AND ".join(["true", *any_team, *index, *bounds, *filters])
    few = f"SELECT * FROM ({theirs}) theirs WHERE {of_few} {ORDER} LIMIT %(limit)s"
    many = along(
        index,
        [*bounds, token_sources.ARE_MANY],
        [*filters, token_sources.IS_NEW_SINCE],
        is_of_one_team=is_of_one_team,
    )
    return _either(token_sources.NEW_SINCE, few, many)


def _either(counted: str, few: str, many: str) -> str:
    """SQL: the newest of two walks, one of which is empty. counted: what tells which, for WITH."""
    shown = ", ".join(SHOWN)
    return (
        f"WITH {counted} SELECT {shown} FROM ((SELECT {shown} FROM ({few}) few) "
        f"UNION ALL (SELECT {shown} FROM ({many}) many)) found {ORDER} LIMIT %(limit)s"
    )
