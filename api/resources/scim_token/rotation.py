"""The extension `/scim-token/{id}/rotate`: a new secret without a gap."""

from datetime import timedelta
from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import Controller, Response, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import FromPath, JSONBody

from api.admission import requires
from api.http.json_body import OptionalBody
from api.http.problems import documented
from api.resources.api_calls import InjectedCall, InjectedKey
from api.resources.scim_token.bodies import (
    CREATED_EXAMPLE,
    EXAMPLE,
    CreatedScimToken,
    Reason,
    Reasoned,
    shown_once,
)
from api.service import InjectedService
from domain.api_token.permissions import Permission
from domain.scim_token.rotation import DEFAULT_OVERLAP, OVERLAP_MAX
from projections.scim_tokens.view import TokenDocument, document


class RotateScimToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """overlap_seconds: how long the older secrets go on; 30 days unless said otherwise."""

    overlap_seconds: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=OVERLAP_MAX // timedelta(seconds=1),
            description="How long the older secret goes on; 30 days unless given.",
        ),
    ] = DEFAULT_OVERLAP // timedelta(seconds=1)
    reason: Reason | None = None


_ENDED: Final = msgspec.structs.replace(EXAMPLE, rotated_at="2021-08-10T11:00:00.000Z")


class RotationController(Controller):
    """`/scim-token/{id}/rotate`, and how a rotation ends."""

    path = "/scim-token"
    tags = ("SCIM tokens",)

    @post(
        "/{token_id:uuid}/rotate",
        operation_id="rotateScimToken",
        opt=requires(Permission.SCIM_TOKENS_WRITE),
        operation_class=OptionalBody,
        summary="Give a SCIM token a new secret (extension)",
        status_code=200,
        responses={
            200: ResponseSpec(
                CreatedScimToken,
                description="The new secret is in this answer only.",
                examples=[Example(value=CREATED_EXAMPLE)],
            ),
            **documented(400, 401, 403, 404, 409, 413, 415, 422, 429, 503),
        },
    )
    async def rotate(
        self,
        service: InjectedService,
        call: InjectedCall,
        key: InjectedKey,
        token_id: FromPath[UUID],
        data: JSONBody[RotateScimToken],
    ) -> Response[CreatedScimToken]:
        """A second secret, while the older one goes on for the overlap:
        no gap at the identity provider.

        Two are good at most: 409 while the overlap before lasts, unless this one has none. 429
        within ten seconds of the rotation before.
        """
        overlap = timedelta(seconds=data.overlap_seconds)
        return shown_once(
            *await service.ledger.rotate_scim_token(
                token_id, overlap=overlap, by=call, key=key, reason=data.reason
            )
        )

    @post(
        "/{token_id:uuid}/rotate/complete",
        operation_id="completeScimTokenRotation",
        opt=requires(Permission.SCIM_TOKENS_WRITE),
        operation_class=OptionalBody,
        summary="End the older secret of a rotation (extension)",
        status_code=200,
        responses={
            200: ResponseSpec(
                TokenDocument,
                description="The newer secret is the only good one, everywhere, from now on.",
                examples=[Example(value=_ENDED)],
            ),
            **documented(400, 401, 403, 404, 409, 413, 415, 422, 503),
        },
    )
    async def complete(
        self,
        service: InjectedService,
        call: InjectedCall,
        key: InjectedKey,
        token_id: FromPath[UUID],
        data: JSONBody[Reasoned],
    ) -> TokenDocument:
        """The newer secret is where it belongs. 409 where no rotation is under way (any more)."""
        return document(
            await service.ledger.complete_rotation(token_id, by=call, key=key, reason=data.reason)
        )

    @post(
        "/{token_id:uuid}/rotate/cancel",
        operation_id="cancelScimTokenRotation",
        opt=requires(Permission.SCIM_TOKENS_WRITE),
        operation_class=OptionalBody,
        summary="End the newer secret of a rotation (extension)",
        status_code=200,
        responses={
            200: ResponseSpec(
                TokenDocument,
                description="The older secret goes on alone, as before the rotation.",
                examples=[Example(value=_ENDED)],
            ),
            **documented(400, 401, 403, 404, 409, 413, 415, 422, 503),
        },
    )
    async def cancel(
        self,
        service: InjectedService,
        call: InjectedCall,
        key: InjectedKey,
        token_id: FromPath[UUID],
        data: JSONBody[Reasoned],
    ) -> TokenDocument:
        """The newer secret is not used, or was lost. 409 where no rotation is under way."""
        return document(
            await service.ledger.cancel_rotation(token_id, by=call, key=key, reason=data.reason)
        )
