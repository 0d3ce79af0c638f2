"""Token objects as of an instant, from the views `scim_tokens` and `audit_trail`.

What never changes (team, creator) and what happens once (revocation) is read off the token's row.
What later events overwrite (name, end, and the instants of the last use, rotation and suspension)
is looked up in the trail, one index probe each, and only where the row holds something later.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.eventstore.lookups.page_end import PageEnd
from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements
from projections.audit_trail import view as audit_trail
from projections.follow.wake_ups import NOBODY, Waker
from projections.scim_tokens import view as scim_tokens
from projections.scim_tokens.filters import TokenFilter
from projections.scim_tokens.queries import BETWEEN, TokenPage
from projections.scim_tokens.row import TokenRow
from projections.scim_tokens.view import document
from projections.scim_tokens.walk import along, behind, of_teams
from projections.view_reader import ViewReader

_SQL: Final = statements("projections.scim_tokens", "as_of.sql")


class AsOfQueries:
    """Reads of tokens as they were. Each names the ledger head that the views must have reached."""

    def __init__(self, pool: ReadPool, *, waker: Waker = NOBODY) -> None:
        self._view = ViewReader(pool, scim_tokens.PROJECTION, audit_trail.PROJECTION, waker=waker)

    async def find(
        self, token_id: UUID, *, teams: Sequence[UUID] | None, at: datetime, ledger_head: int
    ) -> str | None:
        """The document at `at`; None for a token that was missing, foreign or revoked then."""
        conditions = ["id = %(id)s", _CREATED, _NOT_REVOKED]
        parameters: dict[str, Any] = {"id": token_id, "at": at, "limit": 1}
        if teams is not None:
            conditions.append("team_id = ANY(%(teams)s)")
            parameters["teams"] = list(teams)
        newest = f"SELECT * FROM {{table}} WHERE {' AND '.join(conditions)} LIMIT %(limit)s"
        rows = await self._rows(newest, parameters, ledger_head=ledger_head)
        return _render(rows[0]) if rows else None

    async def page(
        self,
        narrow: TokenFilter,
        *,
        after: PageEnd | None,
        limit: int,
        at: datetime,
        ledger_head: int,
    ) -> TokenPage:
        """One page of the list at `at`, narrowed by team, by the status that the tokens had then,
        and by the name that they have now.
        """
        newest, parameters = _newest(narrow, after=after, limit=limit, at=at)
        rows = await self._rows(newest, parameters, ledger_head=ledger_head)
        last = PageEnd(rows[limit - 1][5], rows[limit - 1][0]) if len(rows) > limit else None
        return TokenPage(f"[{BETWEEN.join(map(_render, rows[:limit]))}]", last)

    async def _rows(
        self, newest: str, parameters: Mapping[str, Any], *, ledger_head: int
    ) -> list[tuple[Any, ...]]:
        return await self._view.rows(
            _SQL["as_it_was"].replace("{newest}", newest), parameters, ledger_head=ledger_head
        )


def _render(row: tuple[Any, ...]) -> str:
    return _encoder.encode(document(TokenRow(*row))).decode()


_encoder: Final = msgspec.json.Encoder()


def _newest(
    narrow: TokenFilter, *, after: PageEnd | None, limit: int, at: datetime
) -> tuple[str, dict[str, Any]]:
    """SQL: the tokens of a page, and one more if any."""
    is_of_one_team, parameters = of_teams(narrow.teams)
    parameters |= {"at": at, "limit": limit + 1}
    index = ["revoked_at IS NOT NULL"] if narrow.status == "revoked" else []
    bounds, place = behind(after)
    parameters |= place
    bounds.append(_CREATED)
    filters = list(_STATUS[narrow.status])
    if narrow.name is not None:
        index = ["name = %(name)s"]
        parameters["name"] = narrow.name
    if narrow.created_by is not None:
        made_by = ["created_by = %(created_by)s"]
        index, filters = (made_by, filters) if narrow.name is None else (index, filters + made_by)
        parameters["created_by"] = narrow.created_by
    newest = along(index, bounds, filters, is_of_one_team=is_of_one_team, shown=_SHOWN)
    return newest, parameters


_SHOWN: Final = tuple(scim_tokens.PROJECTION.row.__struct_fields__)


_CREATED: Final = "created_at <= %(at)s"
_NOT_REVOKED: Final = "(revoked_at IS NULL OR revoked_at > %(at)s)"
_END: Final = (
    "(CASE WHEN updated_at <= %(at)s THEN expires_at ELSE (SELECT nullif(a.ends_at, 'infinity') "
    "FROM {audit_trail} a WHERE a.token_id = walked.id AND a.ends_at IS NOT NULL "
    "AND a.kind IN ('scim_token.created', 'scim_token.changed') "
    "AND a.position < (SELECT end_position FROM asked) ORDER BY a.position DESC LIMIT 1"
    ")::timestamptz END)"
)
"""SQL: when the token was to end, as it was decided then."""
_STATUS: Final = {
    "active": [_NOT_REVOKED, f"coalesce({_END}, 'infinity') > %(at)s"],
    "revoked": ["revoked_at <= %(at)s"],
    "expired": [_NOT_REVOKED, f"{_END} <= %(at)s"],
    "all": [],
}
