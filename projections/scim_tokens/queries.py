"""Query the view `scim_tokens`: one token, and pages by filter."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from domain.postgres.read_pool import ReadPool
from projections.follow.wake_ups import NOBODY, Waker
from projections.rows_by_key import RowsByKey
from projections.scim_tokens import view as scim_tokens
from projections.scim_tokens.rotations import RotationQueries
from projections.scim_tokens.view import DOCUMENT
from projections.scim_tokens.walk import ORDER, along, of_teams
from projections.token_sources import view as token_sources
from projections.view_reader import ViewReader


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """What a list is narrowed to. teams: None for all. status: active, suspended, revoked,
    expired or all; a suspended token that has not expired is active, too.

    unused_since: there at that instant, and not used since. is_never_used: not once.
    new_source_since: used since then from an address that was new for it. is_rotating: two secrets
    are good. created_by: made by this user. expires_before: has an end, and that before this
    instant.
    """

    teams: Sequence[UUID] | None = None
    name: str | None = None
    status: str = "active"
    unused_since: datetime | None = None
    is_never_used: bool = False
    new_source_since: datetime | None = None
    is_rotating: bool = False
    created_by: UUID | None = None
    expires_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: the last token on it."""

    created_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class TokenPage:
    """documents: rendered token objects, newest first by (created_at, id).

    next: None on the last page.
    """

    documents: Sequence[str]
    next: Place | None


class _StoredToken(NamedTuple):
    """A token of the view, revoked or not."""

    team_id: UUID
    is_revoked: bool
    may_rotate: bool
    document: str


EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_IS_ROTATING: Final = "least(rotation_ends_at, expires_at) > %(at)s"
_SEPARATOR: Final = "\x1f"
_TOKENS: Final = f"""
    SELECT true, id, team_id, revoked_at IS NOT NULL, rotation_ends_at IS NOT NULL, {DOCUMENT}
    FROM {{table}} WHERE id = ANY(%s)
"""


class TokenQueries:
    """Reads of the view `scim_tokens`."""

    def __init__(self, pool: ReadPool, *, waker: Waker = NOBODY) -> None:
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
        after: Place | None,
        limit: int,
        at: datetime,
        ledger_head: int,
    ) -> TokenPage:
        """One page of documents, `limit` at most. at: the instant that expiry is judged at."""
        page, ids = await self.overview(
            narrow, after=after, limit=limit, at=at, ledger_head=ledger_head
        )
        told = await self._rotations.told(page.documents, ids, at=at, ledger_head=ledger_head)
        return TokenPage(told, page.next)

    async def overview(
        self,
        narrow: TokenFilter,
        *,
        after: Place | None,
        limit: int,
        at: datetime,
        ledger_head: int,
    ) -> tuple[TokenPage, Collection[UUID]]:
        """The same page by one statement: its documents tell of no rotation, but beside them stands
        which of the tokens may be rotating.
        """
        select, parameters = statement(narrow, after=after, limit=limit, at=at)
        view = self._view if narrow.new_source_since is None else self._view_and_sources
        rows = await view.rows(select, parameters, ledger_head=ledger_head)
        ((joined, count, ids, *last),) = rows
        documents = [] if joined is None else joined.split(_SEPARATOR)
        return TokenPage(documents[:limit], Place(*last) if count > limit else None), ids or ()


def statement(
    narrow: TokenFilter, *, after: Place | None, limit: int, at: datetime
) -> tuple[str, Mapping[str, Any]]:
    """SQL for a `ViewReader`, and its parameters:
    one row, of one token more than `limit` if any.
    """
    is_of_one_team, parameters = of_teams(narrow.teams)
    parameters |= {"limit": limit + 1, "at": at}
    index, filters = _conditions(narrow, parameters)
    bounds = []
    if narrow.unused_since is not None:
        bounds.append("created_at < %(unused_since)s")
    if after is not None:
        bounds.append("(created_at, id) < (%(after_at)s, %(after_id)s)")
        parameters |= {"after_at": after.created_at, "after_id": after.id}
    if narrow.new_source_since is None:
        newest = along(index, bounds, filters, is_of_one_team=is_of_one_team)
    else:
        parameters["new_source_since"] = narrow.new_source_since
        newest = _with_new_source(index, bounds, filters, is_of_one_team=is_of_one_team)
    # One value instead of a row each: half the cost of a page of a hundred. JSON text never holds a
    # raw control character, so the separator cannot be part of a document.
    select = (
        f"SELECT true, string_agg({DOCUMENT}, '{_SEPARATOR}'), count(*), "
        "array_agg(id) FILTER (WHERE rotation_ends_at > %(at)s), "
        f"(array_agg(created_at))[{limit}], (array_agg(id))[{limit}] FROM ({newest}) page"
    )
    return select, parameters


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
    few = f"SELECT * FROM {{table}} WHERE {token_sources.IS_ONE_OF_FEW} OFFSET 0"
    of_few = " AND ".join(["true", *any_team, *index, *bounds, *filters])
    many = along(
        index,
        [*bounds, token_sources.ARE_MANY],
        [*filters, token_sources.IS_NEW_SINCE],
        is_of_one_team=is_of_one_team,
    )
    return (
        f"WITH {token_sources.NEW_SINCE} SELECT * FROM ("
        f"(SELECT * FROM ({few}) few WHERE {of_few} {ORDER} LIMIT %(limit)s) UNION ALL ({many})"
        f") found {ORDER} LIMIT %(limit)s"
    )


def _conditions(narrow: TokenFilter, parameters: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Those of the index to walk along, and those that are compared on the way;
    adds to `parameters`.
    """
    filters = _use_filters(narrow, parameters)
    match narrow.status:
        case "active":
            index = ["revoked_at IS NULL"]
            filters.append("(expires_at IS NULL OR expires_at > %(at)s)")
        case "expired":
            index = ["revoked_at IS NULL", "expires_at IS NOT NULL"]
            filters.append("expires_at <= %(at)s")
        case "suspended":
            index = ["suspended_at IS NOT NULL"]
            filters.append("revoked_at IS NULL")
        case "revoked":
            index = ["revoked_at IS NOT NULL"]
        case "all":
            index = []
        case _:
            raise AssertionError(narrow.status)
    if narrow.is_rotating:
        filters.append(_IS_ROTATING)
    if narrow.expires_before is not None:
        parameters["expires_before"] = narrow.expires_before
        filters.append("expires_at < %(expires_before)s")
        if narrow.status == "active":
            index.append("expires_at IS NOT NULL")
    return _narrowest(narrow, parameters, index, filters)


def _narrowest(
    narrow: TokenFilter, parameters: dict[str, Any], index: list[str], filters: list[str]
) -> tuple[list[str], list[str]]:
    """The index of a name or of a user has fewer tokens than that of a status."""
    equal = {
        name: value
        for name in ("name", "created_by")
        if (value := getattr(narrow, name)) is not None
    }
    if equal:
        parameters |= equal
        along_this, *others = (f"{name} = %({name})s" for name in equal)
        return [along_this], filters + index + others
    if narrow.is_rotating:
        return ["rotation_ends_at IS NOT NULL"], filters + index
    if narrow.is_never_used:
        return ["NOT is_used"], filters + index
    return index, filters


def _use_filters(narrow: TokenFilter, parameters: dict[str, Any]) -> list[str]:
    """What asks for the use of a token."""
    filters: list[str] = []
    if narrow.unused_since is not None:
        filters.append("(last_used_at IS NULL OR last_used_at < %(unused_since)s)")
        parameters["unused_since"] = narrow.unused_since
    if narrow.is_never_used:
        filters.append("NOT is_used")
    return filters
