"""The extension `PATCH /scim-token/{id}`: another name, another end."""

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import Controller, patch
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import Body, FromPath
from msgspec import UNSET, UnsetType

from api.admission import requires
from api.http.json_body import OptionalBody
from api.http.problems import documented
from api.http.values import Check
from api.resources.api_calls import InjectedCall, InjectedKey
from api.resources.scim_token.bodies import EXAMPLE, Name, Reason
from api.service import InjectedService
from domain.api_token.permissions import Permission
from domain.commands import ScimTokenChange
from domain.scim_token.values import check_expiry
from projections.scim_tokens.view import TokenDocument, document


class ChangeScimToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be another; what is left out stays as it is.

    name: 1 to 255 characters. expires_at: null takes the end away. reason: why, for the audit
    trail.
    """

    name: Name | UnsetType = UNSET
    expires_at: (
        Annotated[
            datetime,
            msgspec.Meta(tz=True, description="When it ends; null takes the end away."),
            Check(lambda ends, at: check_expiry(ends, after=at)),
        ]
        | UnsetType
        | None
    ) = UNSET
    reason: Reason | None = None


_ASK: Final = {"name": "Okta, new tenant"}
_CHANGED: Final = msgspec.structs.replace(EXAMPLE, updated_at="2021-08-11T09:00:00.000Z", **_ASK)


class ChangeController(Controller):
    """`/scim-token/{id}`, changed."""

    path = "/scim-token"
    tags = ("SCIM tokens",)

    @patch(
        "/{token_id:uuid}",
        operation_id="changeScimToken",
        operation_class=OptionalBody,
        opt=requires(Permission.SCIM_TOKENS_WRITE),
        summary="Change a SCIM token (extension)",
        responses={
            200: ResponseSpec(
                TokenDocument,
                description="As it is from now on.",
                examples=[Example(value=_CHANGED)],
            ),
            **documented(400, 401, 403, 404, 413, 415, 422, 503),
        },
    )
    async def change(
        self,
        service: InjectedService,
        call: InjectedCall,
        key: InjectedKey,
        token_id: FromPath[UUID],
        data: Annotated[ChangeScimToken, Body(examples=[Example(value=_ASK)])],
    ) -> TokenDocument:
        """Another name, another end or, with null, none. Nothing to change records nothing.

        Its secrets end with it, so a changed end holds everywhere at once. A token that has expired
        or is revoked is not changed: create another. 422 `policy` where the policy does not allow
        the new end.
        """
        ask = ScimTokenChange(data.name, data.expires_at, data.reason)
        return document(await service.ledger.change_scim_token(token_id, ask, by=call, key=key))
