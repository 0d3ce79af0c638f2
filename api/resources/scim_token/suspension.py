"""The extensions `suspend` and `resume` of `/scim-token/{id}`: an end that can be taken back."""

from typing import Final
from uuid import UUID

import msgspec
from litestar import Controller, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import FromPath, JSONBody

from api.admission import requires
from api.http.json_body import OptionalBody
from api.http.problems import documented
from api.resources.api_calls import InjectedCall, InjectedKey
from api.resources.scim_token.bodies import EXAMPLE, Reasoned
from api.service import InjectedService
from domain.api_token.permissions import Permission
from projections.scim_tokens.view import TokenDocument, document

_SUSPENDED: Final = msgspec.structs.replace(
    EXAMPLE, updated_at="2021-08-11T09:00:00.000Z", suspended_at="2021-08-11T09:00:00.000Z"
)
_REFUSED: Final = documented(400, 401, 403, 404, 413, 415, 422, 503)


class SuspensionController(Controller):
    """`/scim-token/{id}/suspend` and `/scim-token/{id}/resume`."""

    path = "/scim-token"
    tags = ("SCIM tokens",)
    opt = requires(Permission.SCIM_TOKENS_WRITE)

    @post(
        "/{token_id:uuid}/suspend",
        operation_id="suspendScimToken",
        operation_class=OptionalBody,
        summary="Suspend a SCIM token (extension)",
        status_code=200,
        responses={
            200: ResponseSpec(
                TokenDocument,
                description="Suspended, everywhere, from now on.",
                examples=[Example(value=_SUSPENDED)],
            ),
            **_REFUSED,
        },
    )
    async def suspend(
        self,
        service: InjectedService,
        call: InjectedCall,
        key: InjectedKey,
        token_id: FromPath[UUID],
        data: JSONBody[Reasoned],
    ) -> TokenDocument:
        """As immediate as a revocation, until it is resumed. Repeated, it records nothing new.

        The doors answer as for a revoked token; the audit trail says `suspended`.
        """
        return document(
            await service.ledger.suspend_scim_token(token_id, by=call, key=key, reason=data.reason)
        )

    @post(
        "/{token_id:uuid}/resume",
        operation_id="resumeScimToken",
        operation_class=OptionalBody,
        summary="Resume a suspended SCIM token (extension)",
        status_code=200,
        responses={
            200: ResponseSpec(
                TokenDocument, description="Good again.", examples=[Example(value=EXAMPLE)]
            ),
            **_REFUSED,
        },
    )
    async def resume(
        self,
        service: InjectedService,
        call: InjectedCall,
        key: InjectedKey,
        token_id: FromPath[UUID],
        data: JSONBody[Reasoned],
    ) -> TokenDocument:
        """Its secrets are good again, as far as their ends allow.

        422 `policy` where the team has as many live tokens as its policy allows.
        """
        return document(
            await service.ledger.resume_scim_token(token_id, by=call, key=key, reason=data.reason)
        )
