"""What is done to a token: each command is a form, and its refusal is told on the token's page."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from litestar import Response, post
from litestar.params import FromPath
from litestar.response import Redirect, Template
from msgspec import UNSET, UnsetType

from api.admission import requires
from api.console import forms
from api.console.pages.reveal import reveal
from api.console.pages.token import OVERLAPS, PATH, show
from api.errors import BadRequest
from api.http import problems
from api.http.json_body import StrictRequest
from api.resources.api_calls import InjectedCall
from api.service import InjectedService
from domain.api_token.permissions import Permission
from domain.commands import ScimTokenChange
from domain.errors import InvalidValue, Refusal, SecretAlreadyShown
from domain.scim_token.token import ScimToken

_MAY: Final = requires(Permission.SCIM_TOKENS_WRITE)


@post(f"{PATH}/rotate", include_in_schema=False, opt=_MAY, status_code=200)
async def rotate(
    request: StrictRequest, service: InjectedService, call: InjectedCall, token_id: FromPath[UUID]
) -> Template:
    """Another secret, shown in this answer only."""
    fields = await forms.read(request)
    overlap = forms.overlap_of(fields, OVERLAPS)
    key = forms.key_of(fields, call, request.scope["path"])
    try:
        token, secret = await service.ledger.rotate_scim_token(
            token_id,
            overlap=overlap,
            by=call,
            key=key,
            reason=fields.get("reason"),
            meant=fields.get("newest", ""),
        )
    except SecretAlreadyShown as error:
        return reveal(request, service, error.originator_id, None)
    except Refusal as error:
        return await refused(request, service, token_id, error, fields)
    return reveal(request, service, token.id, secret, name=token.name, is_new=False)


@post(f"{PATH}/complete", include_in_schema=False, opt=_MAY, status_code=303)
async def complete(
    request: StrictRequest, service: InjectedService, call: InjectedCall, token_id: FromPath[UUID]
) -> Response[Any]:
    """The newer secret is where it belongs."""
    command = service.ledger.complete_rotation
    return await _do(
        request, service, call, token_id, command, meant=lambda fields: fields.get("older", "")
    )


@post(f"{PATH}/cancel", include_in_schema=False, opt=_MAY, status_code=303)
async def cancel(
    request: StrictRequest, service: InjectedService, call: InjectedCall, token_id: FromPath[UUID]
) -> Response[Any]:
    """The newer secret is not used, or was lost."""
    command = service.ledger.cancel_rotation
    return await _do(
        request, service, call, token_id, command, meant=lambda fields: fields.get("newer", "")
    )


@post(f"{PATH}/suspend", include_in_schema=False, opt=_MAY, status_code=303)
async def suspend(
    request: StrictRequest, service: InjectedService, call: InjectedCall, token_id: FromPath[UUID]
) -> Response[Any]:
    """Nobody is let in until it is resumed."""
    return await _do(request, service, call, token_id, service.ledger.suspend_scim_token)


@post(f"{PATH}/resume", include_in_schema=False, opt=_MAY, status_code=303)
async def resume(
    request: StrictRequest, service: InjectedService, call: InjectedCall, token_id: FromPath[UUID]
) -> Response[Any]:
    """A suspension is taken back."""
    command = service.ledger.resume_scim_token
    return await _do(
        request,
        service,
        call,
        token_id,
        command,
        meant=lambda fields: forms.instant_of(fields, "suspended_at"),
    )


@post(f"{PATH}/change", include_in_schema=False, opt=_MAY, status_code=303)
async def change(
    request: StrictRequest, service: InjectedService, call: InjectedCall, token_id: FromPath[UUID]
) -> Response[Any]:
    """Another name, another end, or none; what is left out stays as it is, and so does a name that
    is the one that the page showed: somebody may have changed it since.
    """
    fields = await forms.read(request, exact=("name", "name_before"))
    try:
        ends_at = _end_asked_for(fields)
    except forms.Mistakes as error:
        mistake = InvalidValue("/expires_at", error.by_field["expires_at"])
        return await refused(request, service, token_id, mistake, fields)
    if "name" in fields and "name_before" not in fields:
        raise BadRequest(forms.NOT_WHOLE)
    name = fields.get("name", UNSET)
    if name == fields.get("name_before"):
        name = UNSET
    ask = ScimTokenChange(name, ends_at, fields.get("reason"))
    key = forms.key_of(fields, call, request.scope["path"])
    try:
        await service.ledger.change_scim_token(token_id, ask, by=call, key=key)
    except Refusal as error:
        return await refused(request, service, token_id, error, fields)
    return done(token_id, "change")


@post(f"{PATH}/revoke", include_in_schema=False, opt=_MAY, status_code=303)
async def revoke(
    request: StrictRequest, service: InjectedService, call: InjectedCall, token_id: FromPath[UUID]
) -> Response[Any]:
    """For good; unless it was used since its page was looked at, or whoever asks says "anyway"."""
    fields = await forms.read(request)
    looked_at = forms.instant_of(fields, "looked_at")
    try:
        await service.ledger.revoke_scim_token(
            token_id,
            by=call,
            reason=fields.get("reason"),
            unused_since=None if fields.get("anyway") == "yes" else looked_at,
        )
    except Refusal as error:
        return await refused(request, service, token_id, error, fields)
    return done(token_id, "revoke")


def _end_asked_for(fields: Mapping[str, str]) -> datetime | UnsetType | None:
    """The new end, None for none, UNSET for the one that there is. Raises Mistakes."""
    last = forms.end_of_day(fields, "expires_at")
    if fields.get("no_end") != "yes":
        return UNSET if last is None else last
    if last is not None:
        raise forms.Mistakes({"expires_at": "is given, and that there is no end: choose one"})
    return None


async def _do(
    request: StrictRequest,
    service: InjectedService,
    call: InjectedCall,
    token_id: UUID,
    command: Callable[..., Awaitable[ScimToken]],
    *,
    meant: Callable[[Mapping[str, str]], str | datetime] | None = None,
) -> Response[Any]:
    """A command that takes a reason. meant: reads from the form what its page has shown, and the
    command would undo: the secret of a rotation that is to end, or a suspension.
    """
    fields = await forms.read(request)
    path = request.scope["path"]
    named = {} if meant is None else {"meant": meant(fields)}
    key = forms.key_of(fields, call, path)
    try:
        await command(token_id, by=call, key=key, reason=fields.get("reason"), **named)
    except Refusal as error:
        return await refused(request, service, token_id, error, fields)
    return done(token_id, path.rpartition("/")[2])


async def refused(
    request: StrictRequest,
    service: InjectedService,
    token_id: UUID,
    error: Refusal,
    fields: Mapping[str, str],
) -> Template:
    """The token's page, with what stood against the command; a token that is not there is 404.

    Raises the refusal for whoever may not see that page.
    """
    if Permission.SCIM_TOKENS_READ not in request.user.api_token.permissions:
        try:
            raise error
        finally:
            del error  # it has this frame, which must not have it
    told = problems.answer(error)
    return await show(request, service, token_id, refused=told, given=dict(fields))


def done(token_id: UUID, what: str) -> Redirect:
    """The token's page, which says what was done."""
    return Redirect(f"/console/tokens/{token_id}?done={what}", status_code=303)


ROUTES: Final = (rotate, complete, cancel, suspend, resume, change, revoke)
