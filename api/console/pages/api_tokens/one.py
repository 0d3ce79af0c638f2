"""One API token: what it allows, rotate it, revoke it."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect, Template

from api.admission import requires
from api.console import forms
from api.console.layout import page
from api.console.pages.api_tokens.shown import shown
from api.http import problems
from api.http.json_body import StrictRequest
from api.resources.api_calls import InjectedCall
from api.service import InjectedService, Service
from domain.api_token.permissions import Permission
from domain.api_token.rotation import underway
from domain.api_token.token import ApiToken
from domain.authority import require_grantable
from domain.errors import Refusal, SecretAlreadyShown
from domain.eventstore.lookups.api_tokens import Caller

PATH: Final = "/console/api-tokens/{token_id:uuid}"
OVERLAPS: Final = {1: "1 day", 7: "7 days", 30: "30 days", 0: "not at all"}
_MAY: Final = requires(Permission.API_TOKENS_MANAGE)


@get(PATH, include_in_schema=False, opt=_MAY)
async def api_token(
    request: StrictRequest, service: InjectedService, token_id: FromPath[UUID]
) -> Template:
    """Revoked, foreign and missing ones are all 404."""
    return await _show(request, service, token_id)


@get([f"{PATH}/rotate", f"{PATH}/revoke"], include_in_schema=False, opt=_MAY)
async def after_an_api_command(token_id: FromPath[UUID]) -> Redirect:
    """Where a form was sent, asked for again: there is nothing to see but the token."""
    return Redirect(f"/console/api-tokens/{token_id}", status_code=303)


@post(f"{PATH}/rotate", include_in_schema=False, opt=_MAY, status_code=200)
async def rotate_api_token(
    request: StrictRequest, service: InjectedService, call: InjectedCall, token_id: FromPath[UUID]
) -> Template:
    """Another secret, shown in this answer only."""
    fields = await forms.read(request)
    overlap = forms.overlap_of(fields, OVERLAPS)
    key = forms.key_of(fields, call, request.scope["path"])
    looked_at = forms.instant_of(fields, "looked_at")
    try:
        _, secret = await service.ledger.rotate_api_token(
            token_id,
            overlap=overlap,
            by=call,
            key=key,
            reason=fields.get("reason"),
            looked_at=looked_at,
        )
    except SecretAlreadyShown as error:
        return shown(request, error.originator_id, None)
    except Refusal as error:
        return await _show(request, service, token_id, refused=error, given=fields)
    return shown(request, token_id, secret)


@post(f"{PATH}/revoke", include_in_schema=False, opt=_MAY, status_code=303)
async def revoke_api_token(
    request: StrictRequest, service: InjectedService, call: InjectedCall, token_id: FromPath[UUID]
) -> Response[Any]:
    """For good, with the sessions that it signed in for."""
    fields = await forms.read(request)
    try:
        await service.ledger.revoke_api_token(token_id, by=call, reason=fields.get("reason"))
    except Refusal as error:
        return await _show(request, service, token_id, refused=error, given=fields)
    return Redirect("/console/api-tokens?done=revoke", status_code=303)


async def _show(
    request: StrictRequest,
    service: Service,
    token_id: UUID,
    *,
    refused: Refusal | None = None,
    given: Mapping[str, str] | None = None,
) -> Template:
    """The page; a token that is not there is 404 whatever was refused."""
    caller = request.user
    token = await service.ledger.api_token(token_id, seen_by=caller.api_token)
    return page(
        request,
        "api_token.html",
        title="API token",
        token=token,
        is_mine=token.id == caller.api_token.id,
        is_over=not token.is_good(at=caller.at),
        older=underway(token, caller.at),
        refused=None if refused is None else problems.answer(refused),
        given=given or {},
        overlaps=_overlaps(token, caller),
        key=service.ledger.clock_and_ids.new_id(),
        looked_at=caller.at.isoformat(timespec="milliseconds"),
    )


def _overlaps(token: ApiToken, caller: Caller) -> Mapping[int, str]:
    """How long the secret before can go on after a rotation by the caller; none where it cannot
    rotate the token. A third good secret is never to be had.
    """
    if token.session_of is None and token.is_good(at=caller.at):
        with suppress(Refusal):
            require_grantable(caller.api_token, token.permissions, token.teams)
            return OVERLAPS if underway(token, caller.at) is None else {0: OVERLAPS[0]}
    return {}


ROUTES: Final = (api_token, after_an_api_command, rotate_api_token, revoke_api_token)
