"""Revoke many tokens at once: first which they would be, then, on a word, for good."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from litestar import get, post
from litestar.params import QueryParameter
from litestar.response import Template

from api.admission import requires
from api.console import forms
from api.console.days import start_of
from api.console.layout import Text, page
from api.errors import BadRequest
from api.http import instants
from api.http.json_body import StrictRequest
from api.resources.api_calls import InjectedCall
from api.resources.scim_token.revocation import IDS_MAX, carry_out
from api.service import InjectedService
from domain.api_token.permissions import Permission
from domain.commands import CommandKey
from domain.errors import InvalidValue
from domain.scim_token.conditions import TokenConditions
from domain.scim_token.values import check_reason

PATH: Final = "/console/tokens/revoke"
SHOWN_MAX: Final = 50
UNUSED: Final = {"30": "30 days", "90": "90 days", "180": "180 days", "365": "a year"}
CONDITIONS: Final = "conditions"
"""The field of the form that names the others by which its page has chosen."""
_MAY: Final = requires(Permission.SCIM_TOKENS_WRITE)
_INSTANTS: Final = ("unused_since", "created_before")


@get(PATH, include_in_schema=False, opt=_MAY)
async def rehearse(  # noqa: PLR0917 - a condition each
    request: StrictRequest,
    service: InjectedService,
    call: InjectedCall,
    ids: Annotated[list[str] | None, QueryParameter(required=False)] = None,
    team: Text = None,
    created_by: Text = None,
    unused: Text = None,
    created_before: Text = None,
) -> Template:
    """Which tokens would be revoked; none is."""
    asked = forms.filled(
        {
            "ids": ",".join(ids or ()),
            "team": team,
            "created_by": created_by,
            "unused": unused,
            "created_before": created_before,
        }
    )
    try:
        fixed = _fixed(asked, request.user.at)
        where = _conditions(fixed)
    except forms.Mistakes as error:
        return _form(request, asked, error.by_field)
    if not where.are_given:
        return _form(request, asked, {})
    key = CommandKey(service.ledger.clock_and_ids.new_id(), b"")
    found = await carry_out(request, service, call, where, key, reason=None, is_rehearsal=True)
    return page(
        request,
        "bulk_rehearsal.html",
        title="Revoke many tokens",
        found=found,
        shown=found.told[:SHOWN_MAX],
        more=max(0, found.matched - SHOWN_MAX),
        fixed={CONDITIONS: " ".join(fixed), **fixed},
        key=key.id,
    )


@post(PATH, include_in_schema=False, opt=_MAY, status_code=200)
async def revoke_many(
    request: StrictRequest, service: InjectedService, call: InjectedCall
) -> Template:
    """Those of them that still meet what was asked. Sent again, it tells of the same ones."""
    fields = await forms.read(request)
    key = forms.key_of(fields, call, PATH)
    named = fields.get(CONDITIONS, "").split()
    if not named or not fields.keys() >= {*named}:  # or tokens are revoked that nobody was shown
        raise BadRequest(forms.NOT_WHOLE)
    reason = fields.get("reason")
    try:
        where = _conditions(fields)
        check_reason(reason)
    except InvalidValue as error:
        return _form(request, {}, {"": f"The reason {error.detail}"})
    except forms.Mistakes as error:
        return _form(request, {}, error.by_field)
    if not where.are_given:
        return _form(request, {}, {"": "Nothing was chosen."})
    done = await carry_out(request, service, call, where, key, reason=reason)
    return page(
        request,
        "bulk_done.html",
        title="Revoked",
        done=done,
        shown=done.told[:SHOWN_MAX],
        more=max(0, done.matched - SHOWN_MAX),
        cause=key.id,
    )


def _fixed(asked: Mapping[str, str], at: datetime) -> dict[str, str]:
    """What is asked for with its instants, which do not move between the look and the word: a token
    that is made meanwhile was not shown, and is none of them. Raises Mistakes.
    """
    fixed = {field: asked[field] for field in ("ids", "team", "created_by") if field in asked}
    if "unused" in asked:
        if asked["unused"] not in UNUSED:
            raise forms.Mistakes({"unused": "is none of the choices"})
        fixed["unused_since"] = _text(at - timedelta(days=int(asked["unused"])))
    if "created_before" in asked:
        try:
            before = min(start_of(asked["created_before"]), at)
        except ValueError as error:
            raise forms.Mistakes({"created_before": str(error)}) from None
    else:
        before = at
    return {**fixed, "created_before": _text(before)} if asked else fixed


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")


def _conditions(fixed: Mapping[str, str]) -> TokenConditions:
    """For the ledger. Raises Mistakes."""
    found: dict[str, Any] = {
        name: forms.uuid_of(fixed, field)
        for name, field in (("team_id", "team"), ("created_by", "created_by"))
        if field in fixed
    }
    for field in _INSTANTS:
        if field in fixed:
            try:
                found[field] = instants.parse_in_range(fixed[field]).astimezone(UTC)
            except instants.NoInstant as error:
                raise forms.Mistakes({field: error.detail}) from None
    if "ids" in fixed:
        found["ids"] = frozenset(_ids(fixed["ids"].split(",")))
    return TokenConditions(**found)


def _ids(texts: Sequence[str]) -> list[UUID]:
    try:
        ids = [UUID(text) for text in texts[: IDS_MAX + 1]]
    except ValueError:
        ids = []
    if not 1 <= len(ids) <= IDS_MAX:
        raise forms.Mistakes({"": "The choice of tokens is not whole."})
    return ids


def _form(
    request: StrictRequest, asked: Mapping[str, str], mistakes: Mapping[str, str]
) -> Template:
    return page(
        request,
        "bulk.html",
        title="Revoke many tokens",
        status=400 if mistakes else 200,
        asked=asked,
        mistakes=mistakes,
        unused=UNUSED,
    )


ROUTES: Final = (rehearse, revoke_many)
