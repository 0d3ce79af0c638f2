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
from domain.eventstore.connection import ReadPool
from projections import scim_tokens, token_sources
from projections.faults import is_damage, told
from projections.projection import Projection
from projections.scim_tokens import DOCUMENT
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
        conditions, parameters = _conditions(narrow, at)
        if after is not None:
            conditions.append("(created_at, id) < (%s, %s)")
            parameters += [after.created_at, after.id]
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        # One value instead of a row each: half the cost of a page of a hundred. JSON text never holds a raw
        # control character, so the separator cannot be part of a document.
        select = (
            f"SELECT true, string_agg(document, '{_SEPARATOR}'), count(*), "
            f"(array_agg(created_at))[{limit}], (array_agg(id))[{limit}] FROM ("
            f"SELECT {DOCUMENT} AS document, created_at, id FROM {{table}} {where} "
            "ORDER BY created_at DESC, id DESC LIMIT %s) page"
        )
        view = self._view if narrow.new_source_since is None else self._view_and_sources
        rows = await view.rows(select, [*parameters, limit + 1], head=head)
        ((joined, count, *last),) = rows
        documents = [] if joined is None else joined.split(_SEPARATOR)
        return TokenPage(documents[:limit], Place(*last) if count > limit else None)


def _conditions(narrow: TokenFilter, at: datetime) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    parameters: list[Any] = []
    if narrow.teams is not None and len(narrow.teams) == 1:
        conditions.append("team_id = %s")  # an equality keeps the index's order; ANY would sort
        parameters.append(narrow.teams[0])
    elif narrow.teams is not None:
        conditions.append("team_id = ANY(%s)")
        parameters.append(list(narrow.teams))
    if narrow.name is not None:
        conditions.append("name = %s")
        parameters.append(narrow.name)
    conditions += _use_conditions(narrow, parameters)
    match narrow.status:
        case "active":
            conditions += ["revoked_at IS NULL", "(expires_at IS NULL OR expires_at > %s)"]
            parameters.append(at)
        case "revoked":
            conditions.append("revoked_at IS NOT NULL")
        case "expired":
            conditions += ["revoked_at IS NULL", "expires_at <= %s"]
            parameters.append(at)
        case "all":
            pass
        case _:
            raise AssertionError(narrow.status)
    return conditions, parameters


def _use_conditions(narrow: TokenFilter, parameters: list[Any]) -> list[str]:
    """What asks for the use of a token; adds to `parameters`."""
    conditions: list[str] = []
    if narrow.unused_since is not None:
        conditions.append("created_at < %s AND (last_used_at IS NULL OR last_used_at < %s)")
        parameters += [narrow.unused_since, narrow.unused_since]
    if narrow.is_never_used:
        conditions.append("last_used_at IS NULL")
    if narrow.new_source_since is not None:
        conditions.append(token_sources.IS_NEW_SINCE)
        parameters.append(narrow.new_source_since)
    return conditions
