"""Create a token; its secret is shown in the answer."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Final

from litestar import get, post
from litestar.response import Template

from api.admission import requires
from api.console import forms
from api.console.days import day_after
from api.console.layout import page
from api.console.pages.reveal import reveal
from api.http.json_body import StrictRequest
from api.resources.api_calls import InjectedCall
from api.service import InjectedService, Service
from domain.api_token.permissions import Permission
from domain.commands import NewScimToken
from domain.errors import (
    CommandIdReused,
    InvalidValue,
    NotFound,
    PolicyViolated,
    SecretAlreadyShown,
)
from domain.scim_token.values import check_expiry, check_name, check_reason

PATH: Final = "/console/tokens/new"
_MAY: Final = requires(Permission.SCIM_TOKENS_WRITE)


@get(PATH, include_in_schema=False, opt=_MAY)
async def new_token(request: StrictRequest, service: InjectedService) -> Template:
    """The form."""
    return _form(request, service, {}, {})


@post(PATH, include_in_schema=False, opt=_MAY, status_code=200)
async def create_token(
    request: StrictRequest, service: InjectedService, call: InjectedCall
) -> Template:
    """Create it, once however often the form is sent."""
    fields = await forms.read(request)
    key = forms.key_of(fields, call, PATH)
    try:
        ask = _asked(fields, at=request.user.at)
        token, secret = await service.ledger.create_scim_token(ask, by=call, key=key)
    except SecretAlreadyShown as error:
        return reveal(request, service, error.originator_id, None)
    except CommandIdReused:
        return _form(
            request, service, fields, {"": "The form was sent before, filled in otherwise."}
        )
    except NotFound:
        return _form(request, service, fields, {"team_id": "is no team of yours"})
    except (InvalidValue, PolicyViolated) as error:
        return _form(request, service, fields, forms.mistakes_of(error))
    except forms.Mistakes as error:
        return _form(request, service, fields, error.by_field)
    return reveal(request, service, token.id, secret, name=token.name)


def _asked(fields: Mapping[str, str], *, at: datetime) -> NewScimToken:
    """The token that a form asks for. Raises Mistakes, with all of them."""
    mistakes: dict[str, str] = {}
    name, reason, expires_at = fields.get("name", ""), fields.get("reason"), None
    try:
        team_id = forms.uuid_of(fields, "team_id")
    except forms.Mistakes as error:
        mistakes |= error.by_field
    try:
        expires_at = forms.end_of_day(fields, "expires_at")
    except forms.Mistakes as error:
        mistakes |= error.by_field
    checks = {"name": partial(check_name, name), "reason": partial(check_reason, reason)}
    if expires_at is not None:
        checks["expires_at"] = partial(check_expiry, expires_at, after=at)
    for field, check in checks.items():
        try:
            check()
        except InvalidValue as error:
            mistakes[field] = error.detail
    if mistakes:
        raise forms.Mistakes(mistakes)
    return NewScimToken(team_id, name, expires_at, reason)


def _form(
    request: StrictRequest,
    service: Service,
    given: Mapping[str, str],
    mistakes: Mapping[str, str],
) -> Template:
    return page(
        request,
        "new_token.html",
        title="New token",
        status=400 if mistakes else 200,
        given=given,
        mistakes=mistakes,
        teams=request.user.api_token.teams,
        tomorrow=day_after(request.user.at),
        key=service.ledger.clock_and_ids.new_id(),
    )


ROUTES: Final = (new_token, create_token)
