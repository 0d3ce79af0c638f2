"""Who presents an API token: one indexed read for however many requests arrived together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, LiteralString

from domain.api_token import ApiToken
from domain.eventstore import arrays
from domain.eventstore.aggregates import decode_state
from domain.eventstore.batcher import Batcher, Job
from domain.eventstore.connection import ReadPool

FIND: Final[LiteralString] = """
    SELECT s.digest, a.state, h.version, h.last_used_at, h.uses,
        (SELECT max(notification_id) FROM ledger.events)
    FROM ledger.secrets s
    JOIN ledger.aggregates a ON a.originator_id = s.originator_id AND a.kind = 'api_token'
    JOIN ledger.heads h ON h.originator_id = s.originator_id
    WHERE s.digest = ANY(%s)
"""
"""At most one row per digest, by primary keys; the last column is the ledger's head as of this statement."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A stored API token, good or not, and the ledger's head when it was looked up.

    head: notification id; a read that reached it includes everything answered before the request arrived.
    """

    api_token: ApiToken
    head: int


class CallerLookup:
    """Finds API tokens by digest. Nothing is cached: a revoke is seen by the next request everywhere."""

    def __init__(self, pool: ReadPool) -> None:
        self._pool = pool
        self._lookups = Batcher(self._find)

    async def find(self, candidates: Sequence[bytes], *, timeout_s: float = 1.5) -> Caller | None:
        """The API token of a presented secret's digests. Raises Unavailable within `timeout_s`."""
        return await self._lookups.submit(candidates, timeout_s=timeout_s)

    async def _find(self, jobs: Sequence[Job[Sequence[bytes], Caller | None]]) -> None:
        digests = arrays.byteas({digest for job in jobs for digest in job.ask})
        async with self._pool.connection() as connection:
            rows = await connection.execute(FIND, [digests], prepare=True, binary=True)
            found = {digest: _caller(*fields) for digest, *fields in await rows.fetchall()}
        for job in jobs:
            job.resolve(next((found[digest] for digest in job.ask if digest in found), None))


def _caller(state: bytes, version: int, last_used_at: object, uses: int, head: int) -> Caller:
    api_token = decode_state("api_token", state, version=version, last_used_at=last_used_at, uses=uses)  # type: ignore[arg-type]
    assert isinstance(api_token, ApiToken)
    return Caller(api_token, head)
