"""Query which secrets a token has or had, and when each was used."""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from domain.errors import NotFound
from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements
from projections.described import Instant, SecretDigits, rfc3339, rfc3339_or_none
from projections.follow.wake_ups import NOBODY, Waker
from projections.scim_tokens import view as scim_tokens
from projections.usage import view as usage
from projections.view_reader import ViewReader

_SQL: Final = statements("projections.scim_tokens", "secrets.sql")


class TokenSecret(msgspec.Struct, frozen=True):
    """A secret of a token, without the secret.

    id: the first eight hex digits of its keyed digest. created_at: when it was shown.
    first_used_at, last_used_at: null before its first use. ends_at: from when on it does not
    authenticate: the first of the end of its overlap, of the token's own end and of its revocation;
    null where there is none.
    """

    id: SecretDigits
    created_at: Instant
    first_used_at: Instant | None
    last_used_at: Instant | None
    ends_at: Instant | None


class TokenWithSecrets(NamedTuple):
    """document: the token, which does not tell of a rotation. networks: from which alone it is
    good, in CIDR notation; from any where there is none.
    """

    document: str
    networks: Sequence[str]
    secrets: list[TokenSecret]


class SecretQueries:
    """Reads of the views `scim_tokens` and `usage`."""

    def __init__(self, pool: ReadPool, *, waker: Waker = NOBODY) -> None:
        self._view = ViewReader(pool, scim_tokens.PROJECTION, usage.PROJECTION, waker=waker)

    async def of_token(
        self, token_id: UUID, *, teams: Sequence[UUID] | None, ledger_head: int
    ) -> list[TokenSecret]:
        """Every secret of a token of these teams (None for all), revoked or not, oldest first.

        Raises NotFound for a missing or foreign token, and what `ViewReader.rows` raises.
        """
        found = await self.with_token(token_id, teams=teams, ledger_head=ledger_head)
        return found.secrets

    async def with_token(
        self, token_id: UUID, *, teams: Sequence[UUID] | None, ledger_head: int
    ) -> TokenWithSecrets:
        """By one statement. Raises what `of_token` raises."""
        parameters = {"token": token_id, "teams": None if teams is None else list(teams)}
        rows = await self._view.rows(_SQL["secrets"], parameters, ledger_head=ledger_head)
        if not rows:
            raise NotFound("no such token")
        document, networks, *_ = rows[0]
        secrets = [
            TokenSecret(id_, rfc3339(created_at), *map(rfc3339_or_none, rest))
            for _, _, id_, created_at, *rest in rows
        ]
        return TokenWithSecrets(document, networks or (), secrets)
