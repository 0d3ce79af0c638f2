"""Look up API tokens by digest: one indexed read for all requests that arrived together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg

from domain.api_token.session import as_it_stands
from domain.api_token.token import ApiToken
from domain.eventstore.aggregates import decode_state
from domain.eventstore.batcher import Batcher, Job
from domain.eventstore.ledger_clock import LedgerClock
from domain.eventstore.peppers.newer_keys import NewerPeppers
from domain.eventstore.peppers.rekeyer import Rekeyer
from domain.postgres import binary_arrays
from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements

_SQL: Final = statements("domain.eventstore", "sql/api_token_lookup.sql")


@dataclass(frozen=True, slots=True)
class Caller:
    """A stored API token, good or not, and how the ledger stood when it was looked up.

    ledger_head: notification id; a read that reached it includes everything answered before the
    request arrived. at: ledger time, by which the token and whatever the request asks for are
    judged. digest: of the secret that was presented, as it is stored; digests: under every key.
    """

    api_token: ApiToken
    ledger_head: int
    at: datetime
    digest: bytes
    digests: Sequence[bytes]

    @property
    def is_good(self) -> bool:
        """Whether the token authenticates with the secret that was presented."""
        return self.api_token.is_good(at=self.at, digests=[self.digest])

    @property
    def why_not(self) -> str:
        """Of one that is not good: "revoked" or "expired"."""
        return "expired" if self.api_token.revoked_at is None else "revoked"


class ApiTokenLookup:
    """Finds API tokens by digest.

    Nothing is cached: a revoke is seen by the next request everywhere.
    """

    def __init__(
        self, pool: ReadPool, clock: LedgerClock, newer_keys: NewerPeppers, rekeyer: Rekeyer
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._newer_keys = newer_keys
        self._rekeyer = rekeyer
        self._lookups = Batcher(self._find)

    async def find(self, candidates: Sequence[bytes], *, timeout_s: float = 1.5) -> Caller | None:
        """The API token of a presented secret's digests. Raises Unavailable within `timeout_s`.

        candidates: its digest under every key, the newest first. One that is good under an older
        key is digested anew afterwards.
        """
        caller = await self._lookups.submit(candidates, timeout_s=timeout_s)
        if caller is None:
            await self._newer_keys.require_none(timeout_s=timeout_s)
        elif caller.digest != candidates[0] and caller.is_good:
            self._rekeyer.note(caller.api_token.id, candidates, caller.digest)
        return caller

    async def _find(self, jobs: Sequence[Job[Sequence[bytes], Caller | None]]) -> None:
        digests = binary_arrays.byteas({digest for job in jobs for digest in job.ask})
        try:
            rows = await self._pool.fetch(_SQL["find"], [self._clock(), digests])
        except psycopg.Error as error:
            self._clock.refuse(error)
            raise
        found = {
            digest: (_as_it_stands(stored, first), head, at, digest)
            for digest, *stored, first, head, at in rows
        }
        if found:
            self._clock.believed()
        for job in jobs:
            stored = next((found[digest] for digest in job.ask if digest in found), None)
            job.resolve(None if stored is None else Caller(*stored, job.ask))


def _as_it_stands(stored: Sequence[Any], first: bytes | None) -> ApiToken:
    """An API token of its row. first: the state of the one that signed in, for a session."""
    token = stored_api_token(*stored)
    if first is None:
        return token
    # Its uses stand elsewhere, and say nothing here.
    return as_it_stands(token, stored_api_token(first, version=0, last_used_at=None, uses=0))


def stored_api_token(
    state: bytes, version: int, last_used_at: datetime | None, uses: int
) -> ApiToken:
    """An API token as its rows hold it."""
    api_token = decode_state(
        "api_token", state, version=version, last_used_at=last_used_at, uses=uses
    )
    assert isinstance(api_token, ApiToken)
    return api_token
