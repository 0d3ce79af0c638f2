"""Make the link that hands a token over to a customer's IT contact, and end it."""

from typing import Any, Final
from uuid import UUID

from litestar import Response, post
from litestar.params import FromPath
from litestar.response import Template

from api.admission import requires
from api.console import forms
from api.console.layout import page
from api.console.pages.token import PATH
from api.console.pages.token_commands import done, refused
from api.http.json_body import StrictRequest
from api.resources.api_calls import InjectedCall
from api.resources.scim_token.setup_link import url_of
from api.service import InjectedService
from domain.api_token.permissions import Permission
from domain.errors import Refusal

_MAY: Final = requires(Permission.SCIM_TOKENS_WRITE)


@post(f"{PATH}/setup-link", include_in_schema=False, opt=_MAY, status_code=200)
async def make_link(
    request: StrictRequest, service: InjectedService, call: InjectedCall, token_id: FromPath[UUID]
) -> Template:
    """The link, shown in this answer only; one that was there before the page ends."""
    fields = await forms.read(request)
    key = forms.key_of(fields, call, request.scope["path"])
    looked_at = forms.instant_of(fields, "looked_at")
    try:
        token, code = await service.ledger.create_setup_link(
            token_id,
            by=call,
            key=key,
            reason=fields.get("reason"),
            looked_at=looked_at,
        )
    except Refusal as error:
        return await refused(request, service, token_id, error, fields)
    assert token.setup_link is not None
    return page(
        request,
        "setup_link.html",
        title="The setup link",
        token_id=token_id,
        name=token.name,
        url=url_of(request.scope, service, token_id, code),
        ends_at=token.setup_link.ends_at,
    )


@post(f"{PATH}/end-setup-link", include_in_schema=False, opt=_MAY, status_code=303)
async def end_link(
    request: StrictRequest, service: InjectedService, call: InjectedCall, token_id: FromPath[UUID]
) -> Response[Any]:
    """It opens nothing from now on."""
    fields = await forms.read(request)
    looked_at = forms.instant_of(fields, "looked_at")
    try:
        await service.ledger.end_setup_link(
            token_id, by=call, reason=fields.get("reason"), looked_at=looked_at
        )
    except Refusal as error:
        return await refused(request, service, token_id, error, fields)
    return done(token_id, "end-setup-link")


ROUTES: Final = (make_link, end_link)
