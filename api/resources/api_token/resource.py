"""The resource `/api-token`: who may call the administrative API, managed by who may do that.

Reads go to the states themselves, where what was answered is there; a list finds them along an
index of the ledger (`ledger.api_tokens`).
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import Controller, Response, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import Body, FromPath, JSONBody, QueryParameter
from msgspec import UNSET

from api.admission import requires
from api.http.json_body import OptionalBody, StrictRequest
from api.http.problems import documented
from api.resources.api_calls import InjectedCall, InjectedKey
from api.resources.api_token.documents import (
    ASK_EXAMPLE,
    CREATED_EXAMPLE,
    EXAMPLE,
    ApiTokenDocument,
    ApiTokenList,
    CreateApiToken,
    CreatedApiToken,
    RevokedApiToken,
    RotateApiToken,
    document,
)
from api.resources.scim_token.bodies import ReasonInQuery
from api.resources.scim_token.listing import LIMIT_DEFAULT, LIMIT_MAX
from api.service import InjectedService, Service
from domain.api_token.permissions import Permission
from domain.api_token.token import DEFAULT_LIFETIME, ApiToken
from domain.commands import NewApiToken
from domain.eventstore.lookups.api_tokens import Caller
from domain.eventstore.lookups.page_end import PageEnd
from domain.secret import Secret

_SHOWN: Final = ResponseHeader(
    name="Location", description="The token's address.", documentation_only=True
)


class ApiTokenController(Controller):
    """`/api-token`."""

    path = "/api-token"
    tags = ("API tokens",)
    opt = requires(Permission.API_TOKENS_MANAGE)

    @post(
        operation_id="createApiToken",
        summary="Create an API token",
        status_code=201,
        response_headers=[_SHOWN],
        responses={
            201: ResponseSpec(
                CreatedApiToken,
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
        data: Annotated[CreateApiToken, Body(examples=[Example(value=ASK_EXAMPLE)])],
    ) -> Response[CreatedApiToken]:
        """Give a colleague or an automation an API token of its own.

        Nobody grants more than they have: 403 for a permission that your own token lacks, 404 for
        a team that it may not touch. `token` is shown in this answer and cannot be retrieved later.
        """
        ask = NewApiToken(
            data.user_id,
            None if data.teams is None else tuple(data.teams),
            tuple(data.permissions),
            lifetime=DEFAULT_LIFETIME if data.expires_at is UNSET else None,
            expires_at=data.expires_at or None,
            reason=data.reason,
        )
        return _shown_once(*await service.ledger.create_api_token(ask, by=call, key=key))

    @get(
        operation_id="listApiTokens",
        summary="List API tokens",
        responses={
            200: ResponseSpec(
                ApiTokenList,
                description="One page, newest first.",
                examples=[Example(value=ApiTokenList(100, None, [EXAMPLE]))],
            ),
            **documented(400, 401, 403, 503),
        },
    )
    async def list_(
        self,
        request: StrictRequest,
        service: InjectedService,
        limit: Annotated[
            int, QueryParameter(ge=1, le=LIMIT_MAX, description="Tokens a page.", required=False)
        ] = LIMIT_DEFAULT,
        next_cursor: Annotated[
            str | None,
            QueryParameter(
                description="From the page before; empty for the first.", required=False
            ),
        ] = None,
    ) -> ApiTokenList:
        """The good ones that the caller may manage, newest first by (`created_at`, `id`)."""
        caller = request.user
        scope = "api-token", caller.api_token.teams
        after = await service.cursors.page_end(next_cursor, scope=scope)
        page, last = await good_tokens(service, caller, after=after, limit=limit)
        cursor = None if last is None else service.cursors.encode(last, scope=scope)
        return ApiTokenList(limit, cursor, [document(token) for token in page])

    @get(
        "/{token_id:uuid}",
        operation_id="getApiToken",
        summary="Read an API token",
        responses={
            200: ResponseSpec(
                ApiTokenDocument, description="The token.", examples=[Example(value=EXAMPLE)]
            ),
            **documented(400, 401, 403, 404, 503),
        },
    )
    async def read(
        self, request: StrictRequest, service: InjectedService, token_id: FromPath[UUID]
    ) -> ApiTokenDocument:
        """The token, without its secret. Revoked, foreign and missing tokens are all 404."""
        return document(await service.ledger.api_token(token_id, seen_by=request.user.api_token))

    @delete(
        "/{token_id:uuid}",
        operation_id="deleteApiToken",
        summary="Revoke an API token",
        status_code=200,
        responses={
            200: ResponseSpec(
                RevokedApiToken,
                description="Revoked, everywhere, from now on.",
                examples=[Example(value=RevokedApiToken(EXAMPLE.id))],
            ),
            **documented(400, 401, 403, 404, 409, 413, 415, 503),
        },
    )
    async def revoke(
        self,
        service: InjectedService,
        call: InjectedCall,
        token_id: FromPath[UUID],
        reason: ReasonInQuery = None,
    ) -> RevokedApiToken:
        """Final and immediate. Repeated, it answers the same and records nothing new.

        409 for the last token that may manage API tokens where it can.
        """
        await service.ledger.revoke_api_token(token_id, by=call, reason=reason)
        return RevokedApiToken(token_id)

    @post(
        "/{token_id:uuid}/rotate",
        operation_id="rotateApiToken",
        operation_class=OptionalBody,
        summary="Give an API token a new secret",
        status_code=200,
        responses={
            200: ResponseSpec(
                CreatedApiToken,
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
        data: JSONBody[RotateApiToken],
    ) -> Response[CreatedApiToken]:
        """A second secret, while the one before goes on for the overlap.

        Whoever gets it has what the token has: 403 for a permission that your own token lacks. Two
        are good at most: 409 while the overlap before lasts, unless this one has none. 429 within
        ten seconds of the rotation before.
        """
        overlap = timedelta(seconds=data.overlap_seconds)
        return _shown_once(
            *await service.ledger.rotate_api_token(
                token_id, overlap=overlap, by=call, key=key, reason=data.reason
            )
        )


async def good_tokens(
    service: Service, caller: Caller, *, after: PageEnd | None, limit: int
) -> tuple[Sequence[ApiToken], PageEnd | None]:
    """Those that a caller may manage after a page, newest first, `limit` at most, and where the
    page ends; None at the end of the list.
    """
    tokens = await service.ledger.good_api_tokens(
        seen_by=caller.api_token,
        at=caller.at,
        after=after,
        limit=limit + 1,
    )
    page = tokens[:limit]
    return page, PageEnd(page[-1].created_at, page[-1].id) if len(tokens) > limit else None


def _shown_once(token: ApiToken, secret: Secret) -> Response[CreatedApiToken]:
    shown = msgspec.structs.asdict(document(token))
    return Response(
        CreatedApiToken(**shown, token=secret.reveal()),
        headers={"Location": f"/api-token/{token.id}"},
    )
