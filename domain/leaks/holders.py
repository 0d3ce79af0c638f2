"""Whose secrets some are, and whether they are still good: read by digest, nothing recorded."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from domain.eventstore import append
from domain.eventstore.aggregates import decode_states
from domain.leaks.holder import Holder, Token
from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements
from domain.secret import Pepper, Secret

_SQL: Final = statements("domain.eventstore", "sql/secret_holders.sql")


async def find_holders(
    reads: ReadPool, pepper: Pepper, secrets: Sequence[Secret]
) -> list[Holder | None]:
    """The holder of each secret, in the order of the secrets; None for one that nobody has.

    Raises StoreUnavailable.
    """
    candidates = [pepper.candidates(secret) for secret in secrets]
    digests = [digest for tried in candidates for digest in tried]
    rows = await reads.fetch(_SQL["holders"], [digests])
    stored: dict[bytes, UUID] = dict(rows)
    tokens = decode_states(await reads.fetch(append.LOAD, [list(set(stored.values()))]))
    found: list[Holder | None] = []
    for tried in candidates:
        digest = next((digest for digest in tried if digest in stored), None)
        token = None if digest is None else tokens[stored[digest]]
        assert token is None or isinstance(token, Token), "nothing else has secrets"
        found.append(None if digest is None or token is None else Holder(token, (digest, *tried)))
    return found
