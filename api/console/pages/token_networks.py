"""Let a token in from certain networks alone, and from anywhere again."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from litestar import Response, post
from litestar.params import FromPath

from api.admission import requires
from api.console import forms
from api.console.pages.token import PATH, mark_of
from api.console.pages.token_commands import done, refused
from api.errors import BadRequest
from api.http.json_body import StrictRequest
from api.resources.api_calls import InjectedCall
from api.service import InjectedService, Service
from domain.api_token.permissions import Permission
from domain.errors import InvalidValue, Refusal

_MAY: Final = requires(Permission.SCIM_TOKENS_WRITE)
_ONE: Final = re.compile(r"[^\s,]+")
_POINTER: Final = "/networks"
_TOLD_LENGTH: Final = 60


@post(f"{PATH}/allow-networks", include_in_schema=False, opt=_MAY, status_code=303)
async def allow(
    request: StrictRequest, service: InjectedService, call: InjectedCall, token_id: FromPath[UUID]
) -> Response[Any]:
    """Nobody is let in from elsewhere."""
    fields = await forms.read(request)
    asked = _ONE.findall(fields.get("networks", ""))
    key = forms.key_of(fields, call, request.scope["path"])
    try:
        await service.ledger.allow_networks(
            token_id,
            asked,
            by=call,
            reason=fields.get("reason"),
            key=key,
            meant=await _meant(service, token_id, fields),
        )
    except InvalidValue as error:
        return await refused(request, service, token_id, _of_the_field(error, asked), fields)
    except Refusal as error:
        return await refused(request, service, token_id, error, fields)
    return done(token_id, "allow-networks")


@post(f"{PATH}/allow-any-network", include_in_schema=False, opt=_MAY, status_code=303)
async def allow_any(
    request: StrictRequest, service: InjectedService, call: InjectedCall, token_id: FromPath[UUID]
) -> Response[Any]:
    """It is good from anywhere again."""
    fields = await forms.read(request)
    key = forms.key_of(fields, call, request.scope["path"])
    try:
        await service.ledger.allow_any_network(
            token_id,
            by=call,
            reason=fields.get("reason"),
            key=key,
            meant=await _meant(service, token_id, fields),
        )
    except Refusal as error:
        return await refused(request, service, token_id, error, fields)
    return done(token_id, "allow-any-network")


async def _meant(service: Service, token_id: UUID, fields: Mapping[str, str]) -> Sequence[str]:
    """The networks that the page has shown, where they are those of now; else its mark of them,
    which is the name of no network. Raises BadRequest, and NotFound for a missing token.
    """
    if "networks_shown" not in fields:
        raise BadRequest(forms.NOT_WHOLE)
    token = await service.ledger.scim_token(token_id)
    shown = fields["networks_shown"]
    return token.networks if shown == mark_of(token.networks) else (shown,)


def _of_the_field(error: InvalidValue, asked: Sequence[str]) -> InvalidValue:
    """A mistake in one of the networks, as one in the field that they all are in."""
    field, _, place = error.pointer.rpartition("/")
    if field != _POINTER:
        return error
    text = asked[int(place)]
    told = text if len(text) <= _TOLD_LENGTH else f"{text[:_TOLD_LENGTH]}…"
    return InvalidValue(_POINTER, f"“{told}” {error.detail}")


ROUTES: Final = (allow, allow_any)
