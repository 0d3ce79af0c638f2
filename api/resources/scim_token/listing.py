"""The list of `/scim-token`: documented, with filters that are extensions.

It knows nothing about tokens: it makes a filter of the query, and sends documents as stored.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal, cast
from uuid import UUID

import msgspec
from litestar import Controller, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import QueryParameter

from api.admission import requires
from api.errors import BadRequest, FieldError
from api.http.instants import instant
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.resources.scim_token.bodies import EXAMPLE, READABLE, IsName, ScimTokenList
from api.service import InjectedService, visible_teams
from domain.api_token.permissions import Permission
from domain.scim_token.values import NAME_MAX_LENGTH
from projections.scim_tokens.filters import TokenFilter, of_the_present
from projections.scim_tokens.view import TokenDocument

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1000

AsOf = Annotated[
    datetime | None,
    QueryParameter(
        description="An extension: as it was at this instant, without `rotation`.",
        required=False,
    ),
]


def _as_stored(documents: str) -> Sequence[TokenDocument]:
    return cast("Sequence[TokenDocument]", msgspec.Raw(documents))


class ScimTokenListController(Controller):
    """`GET /scim-token`."""

    path = "/scim-token"
    tags = ("SCIM tokens",)

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
                min_length=1,
                max_length=NAME_MAX_LENGTH,
                description="Only of exactly this name; with `as_of`, the one that it has now.",
                required=False,
                schema_extra=READABLE,
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
        violates: Annotated[
            Literal["policy"] | None,
            QueryParameter(
                description="An extension: with an end, or none, that the policy forbids.",
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
            violates_policy=violates is not None,
        )
        if then is not None:
            _require_of_the_past(narrow)
        scope = "scim-token", then, narrow
        after = await service.cursors.page_end(next_cursor, scope=scope)
        source = service.tokens if then is None else service.as_of
        page = await source.page(
            narrow, after=after, limit=limit, at=then or caller.at, ledger_head=caller.ledger_head
        )
        cursor = None if page.next is None else service.cursors.encode(page.next, scope=scope)
        return ScimTokenList(limit, cursor, _as_stored(page.documents))


def _require_of_the_past(narrow: TokenFilter) -> None:
    fields = [FieldError(name, "cannot go with as_of") for name in of_the_present(narrow)]
    if fields:
        raise BadRequest("Two filters do not go together.", fields)
