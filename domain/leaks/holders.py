"""Whose secrets some are, and whether they are still good: read by digest, nothing recorded."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from domain.api_token import ApiToken
from domain.eventstore import append
from domain.eventstore.aggregates import decode_state
from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements
from domain.scim_token.token import ScimToken
from domain.secret import Pepper, Secret, SecretId, secret_id

_SQL: Final = statements("domain.eventstore", "sql/secret_holders.sql")

Token: TypeAlias = ScimToken | ApiToken


class Holder(msgspec.Struct, frozen=True):
    """A token that has a secret, or had it before a rotation. digest: the one that is stored."""

    token: Token
    digest: bytes

    @property
    def secret_id(self) -> SecretId:
        """What may be shown of the secret."""
        return secret_id(self.digest)

    def state(self, *, at: datetime) -> str:
        """How the secret stands: "live", or why it would be refused ("revoked", "expired")."""
        if isinstance(self.token, ScimToken):
            refusal = self.token.refusal(self.digest, at=at)
            return "live" if refusal is None else refusal.reason
        if self.token.is_good(at=at):
            return "live"
        return "expired" if self.token.revoked_at is None else "revoked"


async def find_holders(
    reads: ReadPool, pepper: Pepper, secrets: Sequence[Secret]
) -> list[Holder | None]:
    """The holder of each secret, in the order of the secrets; None for one that nobody has.

    Raises StoreUnavailable.
    """
    candidates = [pepper.candidates(secret) for secret in secrets]
    digests = [digest for tried in candidates for digest in tried]
    rows = await reads.fetch(_SQL["holders"], [digests], binary=True)
    stored: dict[bytes, UUID] = dict(rows)
    tokens = {
        row[0]: decode_state(row[1], row[2], version=row[3], last_used_at=row[4], uses=row[5])
        for row in await reads.fetch(append.LOAD, [list(set(stored.values()))])
    }
    found: list[Holder | None] = []
    for tried in candidates:
        digest = next((digest for digest in tried if digest in stored), None)
        token = None if digest is None else tokens[stored[digest]]
        assert token is None or isinstance(token, Token), "nothing else has secrets"
        found.append(None if digest is None or token is None else Holder(token, digest))
    return found
