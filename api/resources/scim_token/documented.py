"""The resource `/scim-token` as it is documented: four operations.

A handler decodes, gives one command or asks one query, and encodes. It knows nothing about tokens.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal, cast
from uuid import UUID

import msgspec
from litestar import Controller, Response, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, OpenAPIType
from litestar.params import Body, FromPath, HeaderParameter, QueryParameter

from api.admission import requires
from api.errors import BadRequest, FieldError
from api.http.instants import PATTERN, instant
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.http.values import Check
from api.resources.api_calls import InjectedCall, InjectedKey
from api.resources.scim_token.bodies import (
    ASK_EXAMPLE,
    CREATED_EXAMPLE,
    EXAMPLE,
    CreatedScimToken,
    CreateScimToken,
    IsName,
    RevokedScimToken,
    ScimTokenList,
    shown_once,
)
from api.service import InjectedService, visible_teams
from domain.api_token import Permission
from domain.commands import NewScimToken
from domain.errors import NotFound
from domain.scim_token.values import REASON_MAX_LENGTH, check_reason
from projections.scim_tokens.queries import TokenFilter
from projections.scim_tokens.view import TokenDocument

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1000

IfUnusedSince = Annotated[
    datetime | None,
    HeaderParameter(
        name="If-Unused-Since",
        description="An extension: only if it was not used at or after this instant, else 412.",
        required=False,
        # A string by its pattern: generators of clients take no `date-time` and no null here.
        schema_extra={"one_of": None, "type": OpenAPIType.STRING, "pattern": PATTERN},
    ),
]
AsOf = Annotated[
    datetime | None,
    QueryParameter(description="An extension: as it was at this instant.", required=False),
]


def _stored(document_: str) -> TokenDocument:
    """A token object that is sent as it is stored: nothing is decoded to be encoded again."""
    return cast("TokenDocument", msgspec.Raw(document_))


def _all_stored(documents: Sequence[str]) -> Sequence[TokenDocument]:
    return cast("Sequence[TokenDocument]", msgspec.Raw(f"[{','.join(documents)}]"))


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
        operation_id="listScimTokens",
        opt=requires(Permission.SCIM_TOKENS_READ),
        summary="List SCIM tokens",
        responses={
            200: ResponseSpec(
                ScimTokenList,
                description="One page, newest first.",
                examples=[Example(value=ScimTokenList(100, None, [EXAMPLE]))],
            ),
            **documented(400, 401, 403, 503),
        },
    )
    async def list_(  # noqa: PLR0917 - the query of the documented resource
        self,
        request: StrictRequest,
        service: InjectedService,
        team_id: Annotated[
            UUID | None, QueryParameter(description="Only this team's.", required=False)
        ] = None,
        name: Annotated[
            str | None,
            QueryParameter(
                description="Only of exactly this name; with `as_of`, the one that it has now.",
                required=False,
            ),
            IsName,
        ] = None,
        limit: Annotated[
            int, QueryParameter(ge=1, le=LIMIT_MAX, description="Tokens a page.", required=False)
        ] = LIMIT_DEFAULT,
        next_cursor: Annotated[
            str | None,
            QueryParameter(
                description="From the page before; empty for the first.", required=False
            ),
        ] = None,
        status: Annotated[
            Literal["active", "suspended", "revoked", "expired", "all"],
            QueryParameter(description="An extension: history stays readable.", required=False),
        ] = "active",
        unused_since: Annotated[
            datetime | None,
            QueryParameter(
                description="An extension: there then, and not used since.", required=False
            ),
        ] = None,
        never_used: Annotated[
            bool, QueryParameter(description="An extension: not once.", required=False)
        ] = False,
        new_source_since: Annotated[
            datetime | None,
            QueryParameter(
                description="An extension: used since then from an address new for it.",
                required=False,
            ),
        ] = None,
        rotating: Annotated[
            bool,
            QueryParameter(description="An extension: two secrets are good.", required=False),
        ] = False,
        created_by: Annotated[
            UUID | None,
            QueryParameter(description="An extension: made by this user.", required=False),
        ] = None,
        expires_before: Annotated[
            datetime | None,
            QueryParameter(
                description="An extension: with an end, and that before this instant.",
                required=False,
            ),
        ] = None,
        as_of: AsOf = None,
    ) -> ScimTokenList:
        """One page of the tokens that the caller may see, newest first by (`created_at`, `id`)."""
        caller = request.user
        then = instant("as_of", as_of, latest=caller.at)
        narrow = TokenFilter(
            visible_teams(caller.api_token.teams, team_id),
            name,
            status,
            unused_since=instant("unused_since", unused_since),
            is_never_used=never_used,
            new_source_since=instant("new_source_since", new_source_since),
            is_rotating=rotating,
            created_by=created_by,
            expires_before=instant("expires_before", expires_before),
        )
        _refuse_use_filters(narrow, then)
        scope = f"{then} {narrow!r}"
        after = service.cursors.decode(next_cursor, scope=scope) if next_cursor else None
        source = service.tokens if then is None else service.as_of
        page = await source.page(
            narrow, after=after, limit=limit, at=then or caller.at, ledger_head=caller.ledger_head
        )
        cursor = None if page.next is None else service.cursors.encode(page.next, scope=scope)
        return ScimTokenList(limit, cursor, _all_stored(page.documents))

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
            **documented(400, 401, 403, 404, 412, 503),
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
            Check(lambda reason, _: check_reason(reason)),
        ] = None,
        if_unused_since: IfUnusedSince = None,
    ) -> RevokedScimToken:
        """Final and immediate. Repeated, it answers the same and records nothing new."""
        await service.ledger.revoke_scim_token(
            token_id, by=call, reason=reason, unused_since=if_unused_since
        )
        return RevokedScimToken(token_id)


def _refuse_use_filters(narrow: TokenFilter, then: datetime | None) -> None:
    """What was used when is asked of the present; of the past, the token's usage tells. When a
    token ends is known as it is now.
    """
    given = {
        "status": narrow.status == "suspended",
        "unused_since": narrow.unused_since is not None,
        "never_used": narrow.is_never_used,
        "new_source_since": narrow.new_source_since is not None,
        "rotating": narrow.is_rotating,
        "expires_before": narrow.expires_before is not None,
    }
    if then is not None and any(given.values()):
        fields = [
            FieldError(name, "cannot go with as_of") for name, is_given in given.items() if is_given
        ]
        raise BadRequest("Two filters do not go together.", fields)
