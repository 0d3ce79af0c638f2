"""The resource `/scim-token` as it is documented: four operations; the list is in `listing.py`.

A handler decodes, gives one command or asks one query, and encodes. It knows nothing about tokens.
"""

from datetime import datetime
from typing import Annotated, cast
from uuid import UUID

import msgspec
from litestar import Controller, Response, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, OpenAPIType
from litestar.params import Body, FromPath, HeaderParameter, QueryParameter

from api.admission import requires
from api.http.instants import PATTERN, instant
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.resources.api_calls import InjectedCall, InjectedKey
from api.resources.scim_token.bodies import (
    ASK_EXAMPLE,
    CREATED_EXAMPLE,
    EXAMPLE,
    CreatedScimToken,
    CreateScimToken,
    IsPast,
    IsReason,
    RevokedScimToken,
    shown_once,
)
from api.resources.scim_token.listing import AsOf
from api.service import InjectedService
from domain.api_token.permissions import Permission
from domain.commands import NewScimToken
from domain.errors import NotFound
from domain.scim_token.values import REASON_MAX_LENGTH
from projections.scim_tokens.view import TokenDocument

IfUnusedSince = Annotated[
    datetime | None,
    HeaderParameter(
        name="If-Unused-Since",
        description="An extension: only if it was not used at or after this instant, else 412.",
        required=False,
        # A string by its pattern: generators of clients take no `date-time` and no null here.
        schema_extra={"one_of": None, "type": OpenAPIType.STRING, "pattern": PATTERN},
    ),
    IsPast,
]


def _stored(document_: str) -> TokenDocument:
    """A token object that is sent as it is stored: nothing is decoded to be encoded again."""
    return cast("TokenDocument", msgspec.Raw(document_))


class ScimTokenController(Controller):
    """`/scim-token`, as documented."""

    path = "/scim-token"
    tags = ("SCIM tokens",)

    @post(
        operation_id="createScimToken",
        opt=requires(Permission.SCIM_TOKENS_WRITE),
        summary="Create a SCIM token",
        status_code=201,
        response_headers=[
            ResponseHeader(
                name="Location", description="The token's address.", documentation_only=True
            ),
        ],
        responses={
            201: ResponseSpec(
                CreatedScimToken,
                description="Created; the secret is in this answer only.",
                examples=[Example(value=CREATED_EXAMPLE)],
            ),
            **documented(400, 401, 403, 404, 409, 413, 415, 422, 503),
        },
    )
    async def create(
        self,
        service: InjectedService,
        call: InjectedCall,
        key: InjectedKey,
        data: Annotated[CreateScimToken, Body(examples=[Example(value=ASK_EXAMPLE)])],
    ) -> Response[CreatedScimToken]:
        """Issue a token for a team.

        `token` is shown in this answer and cannot be retrieved later.
        """
        ask = NewScimToken(data.team_id, data.name, data.expires_at, data.reason)
        return shown_once(*await service.ledger.create_scim_token(ask, by=call, key=key))

    @get(
        "/{token_id:uuid}",
        operation_id="getScimToken",
        opt=requires(Permission.SCIM_TOKENS_READ),
        summary="Read a SCIM token",
        responses={
            200: ResponseSpec(
                TokenDocument, description="The token.", examples=[Example(value=EXAMPLE)]
            ),
            **documented(400, 401, 403, 404, 503),
        },
    )
    async def read(
        self,
        request: StrictRequest,
        service: InjectedService,
        token_id: FromPath[UUID],
        as_of: AsOf = None,
    ) -> TokenDocument:
        """The token, without its secret. Revoked, foreign and missing tokens are all 404."""
        caller = request.user
        teams, ledger_head = caller.api_token.teams, caller.ledger_head
        then = instant("as_of", as_of, latest=caller.at)
        if then is None:
            found = await service.tokens.find(
                token_id, teams=teams, ledger_head=ledger_head, at=caller.at
            )
        else:
            found = await service.as_of.find(
                token_id, teams=teams, at=then, ledger_head=ledger_head
            )
        if found is None:
            raise NotFound("no such token")
        return _stored(found)

    @delete(
        "/{token_id:uuid}",
        operation_id="deleteScimToken",
        opt=requires(Permission.SCIM_TOKENS_WRITE),
        summary="Revoke a SCIM token",
        status_code=200,
        responses={
            200: ResponseSpec(
                RevokedScimToken,
                description="Revoked, everywhere, from now on.",
                examples=[Example(value=RevokedScimToken(EXAMPLE.id))],
            ),
            **documented(400, 401, 403, 404, 412, 413, 415, 503),
        },
    )
    async def revoke(
        self,
        service: InjectedService,
        call: InjectedCall,
        token_id: FromPath[UUID],
        reason: Annotated[
            str | None,
            QueryParameter(
                min_length=1,
                max_length=REASON_MAX_LENGTH,
                description="An extension: why, for the audit trail.",
                required=False,
            ),
            IsReason,
        ] = None,
        if_unused_since: IfUnusedSince = None,
    ) -> RevokedScimToken:
        """Final and immediate. Repeated, it answers the same and records nothing new."""
        await service.ledger.revoke_scim_token(
            token_id, by=call, reason=reason, unused_since=if_unused_since
        )
        return RevokedScimToken(token_id)
