"""Reads that are never stale: a query answers from a view that has reached the head its caller arrived at."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from domain.errors import ProjectionBehind, ProjectionStopped
from domain.postgres.connection import ReadPool
from projections import scim_tokens, token_sources
from projections.faults import is_damage, told
from projections.projection import Projection
from projections.scim_tokens import DOCUMENT
from projections.token_walk import ORDER, along, of_teams
from projections.wake import NOBODY, Waker

FRESH_TIMEOUT_S: Final = 1.5
LONGEST_PAUSE_S: Final = 0.05
STOPPED_PAUSE_S: Final = 0.25
_LIVE: Final = """
    SELECT name, version FROM ledger.projection_positions
    WHERE (name, shape) IN (SELECT * FROM unnest(%s::text[], %s::int[])) AND role = 'live'
"""
"""A release reads its own shape, also while another release's is live beside it."""

logger = structlog.get_logger()


class ViewReader:
    """Runs queries on the live versions of one view or several.

    projections: {table} in a query stands for the first one's table, and the name of each for its own.
    waker: of the runner, who is told when a query has to wait.
    """

    def __init__(self, pool: ReadPool, *projections: Projection, waker: Waker = NOBODY) -> None:
        self._pool = pool
        self._waker = waker
        self._names = [projection.name for projection in projections]
        self._shapes = [projection.shape for projection in projections]
        self._versions: Mapping[str, int] | None = None

    async def rows(
        self, select: str, parameters: Sequence[Any] | Mapping[str, Any], *, head: int
    ) -> list[tuple[Any, ...]]:
        """The rows of `select`, once every view has applied every event up to `head`.

        select: SQL with {table} for the live table, or the views' names; its first column is true.
        Positions and rows come from one statement, so from one snapshot.
        Raises ProjectionBehind after 1.5 s, or ProjectionStopped where that is why, also where a table cannot
        be read; StoreUnavailable when the store is away.
        """
        pause_s = 0.002
        deadline = asyncio.get_running_loop().time() + FRESH_TIMEOUT_S
        damaged: Mapping[str, int] | None = None
        while True:
            try:
                rows = await self._try(select, parameters)
            except psycopg.Error as error:
                if not is_damage(error):
                    raise
                if self._versions == damaged:
                    logger.error("projections.unreadable", names=self._names, error=told(error))  # noqa: TRY400
                    raise ProjectionStopped(f"the view {self._names[0]} cannot be read") from None
                rows, damaged = [], self._versions  # or was it dropped since the pointers were read?
            if rows and rows[0][0] >= head:
                return [row[3:] for row in rows if row[2] is not None]
            if rows and rows[0][1]:  # unless a newer release takes it over
                pause_s = max(pause_s, STOPPED_PAUSE_S)
            if not rows:  # a view was switched or never made: look the pointers up again
                self._versions = None
            self._waker.awaited()
            if asyncio.get_running_loop().time() + pause_s > deadline:
                error_type = ProjectionStopped if rows and rows[0][1] else ProjectionBehind
                raise error_type(f"the view {self._names[0]} has not reached the ledger's head")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)

    async def _try(self, select: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
        async def ask(connection: AsyncConnection[TupleRow]) -> list[tuple[Any, ...]]:
            if self._versions is None:
                found = await (await connection.execute(_LIVE, [self._names, self._shapes])).fetchall()
                if len(found) < len(self._names):
                    return []
                self._versions = dict(found)
            cursor = connection.cursor(binary=True)
            statement = _with_position(select, self._names, self._versions)
            return await (await cursor.execute(statement, parameters, prepare=True)).fetchall()

        return await self._pool.read(ask)


def _with_position(select: str, names: Sequence[str], versions: Mapping[str, int]) -> str:
    """`select` on the tables of these versions, behind how far all have come and whether one has stopped."""
    tables = {name: f"views.{name}_v{version}" for name, version in versions.items()}
    live = ", ".join(f"('{name}', {version})" for name, version in versions.items())
    return f"""
        SELECT p.position, p.has_stopped, r.* FROM (
            SELECT min(position) AS position, bool_or(stopped_at IS NOT NULL) AS has_stopped
            FROM ledger.projection_positions
            WHERE (name, version) IN ({live}) AND role = 'live' HAVING count(*) = {len(versions)}
        ) p
        LEFT JOIN LATERAL (
            {select.format(table=tables[names[0]], **tables)}
        ) r ON true
    """


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """What a list is narrowed to. teams: None for all. status: active, revoked, expired or all.

    unused_since: there at that instant, and not used since. is_never_used: not once.
    new_source_since: used since then from an address that was new for it.
    """

    teams: Sequence[UUID] | None = None
    name: str | None = None
    status: str = "active"
    unused_since: datetime | None = None
    is_never_used: bool = False
    new_source_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: the last token on it."""

    created_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class TokenPage:
    """documents: rendered token objects, newest first by (created_at, id). next: None on the last page."""

    documents: Sequence[str]
    next: Place | None


_SEPARATOR: Final = "\x1f"


class TokenQueries:
    """Reads of the view `scim_tokens`."""

    def __init__(self, pool: ReadPool, *, waker: Waker = NOBODY) -> None:
        self._view = ViewReader(pool, scim_tokens.PROJECTION, waker=waker)
        self._view_and_sources = ViewReader(
            pool, scim_tokens.PROJECTION, token_sources.PROJECTION, waker=waker
        )

    async def is_known(self, token_id: UUID, *, teams: Sequence[UUID] | None, head: int) -> bool:
        """Whether there is such a token of these teams (None for all), revoked or not."""
        select = "SELECT true FROM {table} WHERE id = %s"
        parameters: list[Any] = [token_id]
        if teams is not None:
            select += " AND team_id = ANY(%s)"
            parameters.append(list(teams))
        return bool(await self._view.rows(select, parameters, head=head))

    async def find(self, token_id: UUID, *, teams: Sequence[UUID] | None, head: int) -> str | None:
        """The document of a token that is not revoked; None for missing, foreign and revoked alike."""
        select = f"SELECT true, {DOCUMENT} FROM {{table}} WHERE id = %s AND revoked_at IS NULL"
        parameters: list[Any] = [token_id]
        if teams is not None:
            select += " AND team_id = ANY(%s)"
            parameters.append(list(teams))
        rows = await self._view.rows(select, parameters, head=head)
        return rows[0][0] if rows else None

    async def page(
        self, narrow: TokenFilter, *, after: Place | None, limit: int, at: datetime, head: int
    ) -> TokenPage:
        """One page of documents, `limit` at most. at: the instant that expiry is judged at."""
        select, parameters = statement(narrow, after=after, limit=limit, at=at)
        view = self._view if narrow.new_source_since is None else self._view_and_sources
        rows = await view.rows(select, parameters, head=head)
        ((joined, count, *last),) = rows
        documents = [] if joined is None else joined.split(_SEPARATOR)
        return TokenPage(documents[:limit], Place(*last) if count > limit else None)


def statement(
    narrow: TokenFilter, *, after: Place | None, limit: int, at: datetime
) -> tuple[str, Mapping[str, Any]]:
    """SQL for a `ViewReader`, and its parameters: one row, of one token more than `limit` if any."""
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
    # One value instead of a row each: half the cost of a page of a hundred. JSON text never holds a raw
    # control character, so the separator cannot be part of a document.
    select = (
        f"SELECT true, string_agg({DOCUMENT}, '{_SEPARATOR}'), count(*), "
        f"(array_agg(created_at))[{limit}], (array_agg(id))[{limit}] FROM ({newest}) page"
    )
    return select, parameters


def _with_new_source(
    index: Sequence[str], bounds: Sequence[str], filters: Sequence[str], *, is_of_one_team: bool | None
) -> str:
    """New addresses are either few, and lead to their tokens, or they are met on the way."""
    any_team = {True: ["team_id = %(team)s"], False: ["team_id = ANY(%(teams)s)"], None: []}[is_of_one_team]
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
    """Those of the index to walk along, and those that are compared on the way; adds to `parameters`."""
    filters = _use_filters(narrow, parameters)
    match narrow.status:
        case "active":
            index = ["revoked_at IS NULL"]
            filters.append("(expires_at IS NULL OR expires_at > %(at)s)")
        case "expired":
            index = ["revoked_at IS NULL", "expires_at IS NOT NULL"]
            filters.append("expires_at <= %(at)s")
        case "revoked":
            index = ["revoked_at IS NOT NULL"]
        case "all":
            index = []
        case _:
            raise AssertionError(narrow.status)
    if narrow.name is not None:
        parameters["name"] = narrow.name
        return ["name = %(name)s"], filters + index
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
