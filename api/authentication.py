"""Find out whose API token a request presents, and record that it was used or refused."""

from typing import Final

import structlog
from litestar.types import HTTPScope

from api.resources.api_calls import presentation_of
from api.service import Service
from domain.api_token.permissions import Permission
from domain.errors import Unauthenticated, Unavailable
from domain.eventstore.lookups.api_tokens import Caller
from domain.secret import Secret

_NOT_VALID: Final = "The API token is not valid."

logger = structlog.get_logger()


class ApiTokens:
    """The API tokens of a service, as they are presented."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._seen = service.instruments.doors.authentications

    async def caller(self, scope: HTTPScope, secret: Secret) -> Caller:
        """Who presents a secret; that it was used is on record.

        Unknown and over are one answer, after one look each. Raises Unauthenticated, Unavailable.
        """
        ledger = self._service.ledger
        try:
            caller = await ledger.api_token_lookup.find(ledger.pepper.candidates(secret))
        except Unavailable:
            self._seen.add(("api", "unavailable"))
            raise
        if caller is None:
            self._service.doors.refusals.count("unknown", "api")
            raise Unauthenticated(_NOT_VALID)
        if not caller.is_good:
            self._seen.add(("api", caller.why_not))
            await self.record_refusal(scope, caller, lacking=None)
            raise Unauthenticated(_NOT_VALID)
        if caller.api_token.use(at=caller.at):
            presentation = presentation_of(scope, self._service.doors.client_addresses)
            await ledger.use_api_token(
                caller.api_token.id,
                presentation,
                digests=caller.digests,
                session_of=caller.api_token.session_of,
            )
        self._seen.add(("api", "good"))
        return caller

    async def record_refusal(
        self, scope: HTTPScope, caller: Caller, *, lacking: Permission | None
    ) -> None:
        """It is refused whether this can be recorded or not: a no needs no record."""
        try:
            await self._service.ledger.refuse_api_token(
                caller.api_token.id,
                lacking=lacking,
                presentation=presentation_of(scope, self._service.doors.client_addresses),
                at=caller.at,
                digests=caller.digests,
                session_of=caller.api_token.session_of,
            )
        except Unavailable:
            logger.warning("refusal.not_recorded", api_token_id=str(caller.api_token.id))
