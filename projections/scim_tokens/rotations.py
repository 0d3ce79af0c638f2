"""Query the rotations that are under way, and how their two secrets are used."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements
from domain.scim_token.rotation import SecretsInUse
from projections.described import rfc3339, rfc3339_or_none
from projections.follow.wake_ups import NOBODY, Waker
from projections.scim_tokens import view as scim_tokens
from projections.scim_tokens.known_secrets import Rotation
from projections.usage import view as usage
from projections.view_reader import ViewReader

_SQL: Final = statements("projections.scim_tokens", "rotations.sql")
_encoder: Final = msgspec.json.Encoder()


class Underway(NamedTuple):
    """A rotation, with what identifies its token and its place in a walk.

    changed_at, is_suspended: of the token. older_refused_until: as of `SecretsInUse`.
    newer_again_at: the same, where it was asked for.
    """

    token_id: UUID
    created_at: datetime
    changed_at: datetime
    is_suspended: bool
    started_at: datetime
    ends_at: datetime
    newer: str
    newer_first_at: datetime | None
    newer_last_at: datetime | None
    older_last_at: datetime | None
    older_refused_until: datetime | None
    newer_again_at: datetime | None
    told_day: int | None

    @property
    def in_use(self) -> SecretsInUse:
        """How its secrets are used."""
        return SecretsInUse(
            self.newer,
            self.older_last_at,
            self.newer_again_at,
            self.newer_last_at,
            self.older_refused_until,
        )


class RotationQueries:
    """Reads of the views `scim_tokens` and `usage`."""

    def __init__(self, pool: ReadPool, *, waker: Waker = NOBODY) -> None:
        self._view = ViewReader(pool, scim_tokens.PROJECTION, usage.PROJECTION, waker=waker)

    async def told(
        self, documents: Sequence[str], ids: Collection[UUID], *, at: datetime, ledger_head: int
    ) -> list[str]:
        """The same documents; those of tokens that are rotating at `at` tell of it.

        ids: of those that may be. Reads nothing where there are none.
        """
        if not ids:
            return list(documents)
        rows = await self._rows(_SQL["by_id"], {"ids": list(ids)}, ledger_head=ledger_head)
        rotating = {str(row.token_id): row for row in rows if row.ends_at > at}
        return [_with_rotation(document, rotating.get(document[_ID])) for document in documents]

    async def slice(
        self,
        created_at: datetime,
        token_id: UUID,
        *,
        limit: int,
        ledger_head: int,
        silent_for: timedelta | None = None,
    ) -> list[Underway]:
        """The next rotations of a walk, newest token first; also those whose overlap is over.

        silent_for: how long of a silence `newer_again_at` is after; None where nobody asks.
        """
        place = {"created_at": created_at, "id": token_id, "limit": limit}
        return await self._rows(
            _SQL["slice"], place, ledger_head=ledger_head, silent_for=silent_for
        )

    async def _rows(
        self,
        rotating: str,
        parameters: Mapping[str, Any],
        *,
        ledger_head: int,
        silent_for: timedelta | None = None,
    ) -> list[Underway]:
        select = _SQL["rotations"].replace("{rotating}", rotating)
        asked = {**parameters, "silent_for": silent_for}
        rows = await self._view.rows(select, asked, ledger_head=ledger_head)
        return [Underway(*row) for row in rows]


_ID: Final = slice(len('{"id":"'), len('{"id":"') + 36)
"""Where a document has its token's id."""


def _with_rotation(document: str, underway: Underway | None) -> str:
    """The last field of a document: it changes with uses, so it is not stored with the rest."""
    if underway is None:
        return document
    rotation = Rotation(
        rfc3339(underway.started_at),
        rfc3339(underway.ends_at),
        rfc3339_or_none(underway.newer_first_at),
        rfc3339_or_none(underway.older_last_at),
    )
    return f'{document[:-1]},"rotation":{_encoder.encode(rotation).decode()}}}'
