"""Look up the token that a setup link is of, as it stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import psycopg

from domain.errors import NotFound
from domain.eventstore.aggregates import decode_state
from domain.eventstore.ledger_clock import LedgerClock
from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements
from domain.scim_token.handover.decide import opened_by
from domain.scim_token.token import ScimToken
from domain.setup_link import SetupLink

_SQL: Final = statements("domain.eventstore", "sql/setup_link.sql")


@dataclass(frozen=True, slots=True)
class OpenedLink:
    """A link that has not ended, and its token. ledger_head, at: as of `Caller`."""

    link: SetupLink
    token: ScimToken
    ledger_head: int
    at: datetime


async def open_link(
    pool: ReadPool, clock: LedgerClock, token_id: UUID, digests: Sequence[bytes]
) -> OpenedLink:
    """The link of `digests`, as of `opened_by`, if it is the token's.

    Raises NotFound: unknown, ended, and another token's look alike. Raises Unavailable.
    """
    try:
        ((kind, state, version, last_used_at, uses, ledger_head, at),) = await pool.fetch(
            _SQL["find"], [clock(), token_id]
        )
    except psycopg.Error as error:
        clock.refuse(error)
        raise
    clock.believed()
    token: ScimToken | None = None
    if kind is not None:
        found = decode_state(kind, state, version=version, last_used_at=last_used_at, uses=uses)
        assert isinstance(found, ScimToken)
        token = found
    link = opened_by(token, digests, at=at)
    if token is None or link is None:
        raise NotFound("no such setup link")
    return OpenedLink(link, token, ledger_head, at)
