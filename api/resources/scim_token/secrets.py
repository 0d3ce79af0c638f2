"""The extension `/scim-token/{id}/secrets`: which secrets a token has or had, and their use."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec
from litestar import Controller, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import FromPath

from api.admission import requires
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.service import InjectedService
from domain.api_token.permissions import Permission
from projections.scim_tokens.secrets import TokenSecret


class TokenSecrets(msgspec.Struct, frozen=True):
    """The oldest first, those that have ended included."""

    result: Sequence[TokenSecret]


_EXAMPLE: Final = TokenSecrets(
    [
        TokenSecret(
            id="5e1f09ab",
            created_at="2021-02-10T10:00:00.000Z",
            first_used_at="2021-02-10T10:05:00.000Z",
            last_used_at="2021-08-10T10:03:00.000Z",
            ends_at="2021-09-09T10:00:00.000Z",
        ),
        TokenSecret(
            id="c07d51e2",
            created_at="2021-08-10T10:00:00.000Z",
            first_used_at="2021-08-10T10:05:00.000Z",
            last_used_at="2021-08-10T10:45:00.000Z",
            ends_at=None,
        ),
    ]
)


class SecretsController(Controller):
    """`/scim-token/{id}/secrets`."""

    path = "/scim-token"
    tags = ("SCIM tokens",)

    @get(
        "/{token_id:uuid}/secrets",
        operation_id="listScimTokenSecrets",
        opt=requires(Permission.SCIM_TOKENS_READ),
        summary="See which secrets a SCIM token has, and when each was used (extension)",
        responses={
            200: ResponseSpec(
                TokenSecrets,
                description="Every secret by its id, the oldest first; never a secret.",
                examples=[Example(value=_EXAMPLE)],
            ),
            **documented(400, 401, 403, 404, 503),
        },
    )
    async def secrets(
        self, request: StrictRequest, service: InjectedService, token_id: FromPath[UUID]
    ) -> TokenSecrets:
        """Also of a revoked token. Foreign and missing ones are 404."""
        caller = request.user
        return TokenSecrets(
            await service.secrets.of_token(
                token_id, teams=caller.api_token.teams, ledger_head=caller.ledger_head
            )
        )
