"""Create an API token; its secret is shown in the answer."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from litestar import get, post
from litestar.response import Template

from api.admission import requires
from api.console import forms
from api.console.days import day_after, last_within
from api.console.layout import page
from api.console.pages.api_tokens.shown import shown
from api.http.json_body import StrictRequest
from api.resources.api_calls import InjectedCall
from api.service import InjectedService, Service
from domain.api_token.permissions import Permission
from domain.api_token.token import DEFAULT_LIFETIME
from domain.commands import NewApiToken
from domain.errors import CommandIdReused, InvalidValue, NotFound, SecretAlreadyShown

PATH: Final = "/console/api-tokens/new"
ALLOWS: Final = {
    Permission.SCIM_TOKENS_READ: "see SCIM tokens",
    Permission.SCIM_TOKENS_WRITE: "create, change and revoke SCIM tokens",
    Permission.AUDIT_READ: "read the audit trail",
    Permission.PROJECTIONS_MANAGE: "see the system and rebuild its views",
    Permission.API_TOKENS_MANAGE: "manage API tokens",
    Permission.POLICIES_MANAGE: "set policies",
    Permission.LEAKS_REPORT: "report leaked secrets",
}
_MAY: Final = requires(Permission.API_TOKENS_MANAGE)


@get(PATH, include_in_schema=False, opt=_MAY)
async def new_api_token(request: StrictRequest, service: InjectedService) -> Template:
    """The form."""
    return _form(request, service, {}, {})


@post(PATH, include_in_schema=False, opt=_MAY, status_code=200)
async def create_api_token(
    request: StrictRequest, service: InjectedService, call: InjectedCall
) -> Template:
    """Create it, once however often the form is sent."""
    fields = await forms.read(request)
    key = forms.key_of(fields, call, PATH)
    try:
        ask = _asked(fields)
        token, secret = await service.ledger.create_api_token(ask, by=call, key=key)
    except SecretAlreadyShown as error:
        return shown(request, error.originator_id, None)
    except CommandIdReused:
        mistakes = {"": "The form was sent before, filled in otherwise."}
    except NotFound:
        mistakes = {"teams": "names a team that is none of yours"}
    except InvalidValue as error:
        mistakes = forms.mistakes_of(error)
    except forms.Mistakes as error:
        mistakes = dict(error.by_field)
    else:
        return shown(request, token.id, secret)
    return _form(request, service, fields, mistakes)


def _asked(fields: Mapping[str, str]) -> NewApiToken:
    """The API token that a form asks for. Raises Mistakes, with all of them."""
    mistakes: dict[str, str] = {}
    teams: tuple[UUID, ...] | None = None
    expires_at = None
    try:
        user_id = forms.uuid_of(fields, "user_id")
    except forms.Mistakes as error:
        mistakes |= error.by_field
    try:
        teams = _teams(fields.get("teams"))
    except ValueError:
        mistakes["teams"] = "must be UUIDs, with blanks between them"
    try:
        expires_at = forms.end_of_day(fields, "expires_at")
    except forms.Mistakes as error:
        mistakes |= error.by_field
    permissions = tuple(each for each in Permission if fields.get(each) == "yes")
    if not permissions:
        mistakes["permissions"] = "choose at least one"
    if mistakes:
        raise forms.Mistakes(mistakes)
    return NewApiToken(
        user_id, teams, permissions, None, expires_at=expires_at, reason=fields.get("reason")
    )


def _teams(text: str | None) -> tuple[UUID, ...] | None:
    """Those that a field names; None, for every one, where nothing stands in it.

    Raises ValueError, also where there is something that names none.
    """
    if text is None:
        return None
    return tuple(UUID(name) for name in text.replace(",", " ").split() or [text])


def _form(
    request: StrictRequest,
    service: Service,
    given: Mapping[str, str],
    mistakes: Mapping[str, str],
) -> Template:
    mine = request.user.api_token
    return page(
        request,
        "new_api_token.html",
        title="New API token",
        status=400 if mistakes else 200,
        given=given,
        mistakes=mistakes,
        allows={each: told for each, told in ALLOWS.items() if each in mine.permissions},
        teams=mine.teams,
        tomorrow=day_after(request.user.at),
        last_day=last_within(DEFAULT_LIFETIME, request.user.at),
        key=service.ledger.clock_and_ids.new_id(),
    )


ROUTES: Final = (new_api_token, create_api_token)
