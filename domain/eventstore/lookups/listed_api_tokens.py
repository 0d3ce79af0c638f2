"""Read API tokens by what a list or a revocation asks for: each along one index."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from domain.api_token.session import LIFETIME
from domain.api_token.token import ApiToken
from domain.eventstore.lookups.api_tokens import stored_api_token
from domain.eventstore.lookups.page_end import PageEnd
from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements

_SQL: Final = statements("domain.eventstore", "sql/api_tokens.sql")
_FIRST_ID: Final = UUID(int=0)
_LAST_ID: Final = UUID(int=(1 << 128) - 1)


async def newest(
    pool: ReadPool,
    *,
    teams: Sequence[UUID] | None,
    at: datetime,
    after: PageEnd | None,
    limit: int,
) -> Sequence[ApiToken]:
    """The good ones at `at` that are for these teams alone, newest first; None for all.

    Raises Unavailable.
    """
    asked = _behind(after, _LAST_ID) | {"at": at, "session": LIFETIME, "limit": limit}
    if teams is None:
        rows = await pool.fetch(_SQL["newest"], asked)
    else:
        asked["teams"] = list(dict.fromkeys(teams))
        rows = await pool.fetch(_SQL["newest_of_teams"], asked)
    return [stored_api_token(*row) for row in rows]


async def oldest(pool: ReadPool, *, after: PageEnd | None, limit: int) -> Sequence[ApiToken]:
    """Every one, whatever became of it, oldest first. Raises Unavailable."""
    rows = await pool.fetch(_SQL["oldest"], _behind(after, _FIRST_ID) | {"limit": limit})
    return [stored_api_token(*row) for row in rows]


async def live_sessions(
    pool: ReadPool, token_ids: Sequence[UUID], *, at: datetime, limit: int
) -> Sequence[UUID]:
    """Sessions that these API tokens opened, and that are not over, `limit` at most.

    Raises Unavailable.
    """
    asked = {"ids": list(token_ids), "at": at, "limit": limit}
    rows = await pool.fetch(_SQL["live_sessions"], asked)
    return [session_id for (session_id,) in rows]


async def other_managers(pool: ReadPool, token_id: UUID, *, at: datetime) -> Sequence[UUID]:
    """Some that manage API tokens wherever this one does, if there are any. Raises Unavailable."""
    rows = await pool.fetch(_SQL["other_managers"], {"id": token_id, "at": at})
    return [manager_id for (manager_id,) in rows]


def _behind(after: PageEnd | None, first: UUID) -> dict[str, Any]:
    if after is None:
        return {"after_at": None, "after_id": first}
    return {"after_at": after.created_at, "after_id": after.id}
