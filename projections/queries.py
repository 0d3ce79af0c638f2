"""Reads that are never stale: a query answers from a view that has reached the head its caller arrived at."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg

from domain.errors import ProjectionBehind
from domain.eventstore.connection import ReadPool
from projections import scim_tokens

FRESH_TIMEOUT_S: Final = 1.5
_LIVE: Final = "SELECT version FROM ledger.projection_positions WHERE name = %s AND role = 'live'"


class ViewReader:
    """Runs queries on the live version of one view."""

    def __init__(self, pool: ReadPool, name: str) -> None:
        self._pool = pool
        self._name = name
        self._version: int | None = None

    async def rows(self, select: str, parameters: Sequence[Any], *, head: int) -> list[tuple[Any, ...]]:
        """The rows of `select`, once the view has applied every event up to `head`.

        select: SQL with {table} for the live table. Position and rows come from one statement, so from one
        snapshot. Raises ProjectionBehind after 1.5 s, StoreUnavailable when the store is away.
        """
        pause_s = 0.002
        deadline = asyncio.get_running_loop().time() + FRESH_TIMEOUT_S
        while True:
            rows = await self._try(select, parameters)
            if rows and rows[0][0] >= head:
                return [row[2:] for row in rows if row[1] is not None]
            if not rows:  # the view was switched or never made: look the pointer up again
                self._version = None
            if asyncio.get_running_loop().time() + pause_s > deadline:
                raise ProjectionBehind(f"the view {self._name} has not reached the ledger's head")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.05)

    async def _try(self, select: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            if self._version is None:
                row = await (await connection.execute(_LIVE, [self._name])).fetchone()
                if row is None:
                    return []
                self._version = row[0]
            statement = f"""
                SELECT p.position, r.* FROM ledger.projection_positions p
                LEFT JOIN LATERAL (
                    {select.format(table=f"views.{self._name}_v{self._version}")}
                ) r ON true
                WHERE p.name = '{self._name}' AND p.version = {self._version} AND p.role = 'live'
            """
            try:
                cursor = connection.cursor(binary=True)
                return await (await cursor.execute(statement, parameters, prepare=True)).fetchall()
            except psycopg.errors.UndefinedTable:  # dropped since the pointer was read
                return []


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """What a list is narrowed to. teams: None for all. status: active, revoked, expired or all."""

    teams: Sequence[UUID] | None = None
    name: str | None = None
    status: str = "active"


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


class TokenQueries:
    """Reads of the view `scim_tokens`."""

    def __init__(self, pool: ReadPool) -> None:
        self._view = ViewReader(pool, scim_tokens.PROJECTION.name)

    async def find(self, token_id: UUID, *, teams: Sequence[UUID] | None, head: int) -> str | None:
        """The document of a token that is not revoked; None for missing, foreign and revoked alike."""
        select = "SELECT true, document FROM {table} WHERE id = %s AND revoked_at IS NULL"
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
        select = (
            f"SELECT true, document, created_at, id FROM {{table}} {where} "
            "ORDER BY created_at DESC, id DESC LIMIT %s"
        )
        rows = await self._view.rows(select, [*parameters, limit + 1], head=head)
        more = rows[limit - 1][1:] if len(rows) > limit else None
        return TokenPage([row[0] for row in rows[:limit]], None if more is None else Place(*more))


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
