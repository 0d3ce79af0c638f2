"""Sign in with an API token, and sign out."""

import re
from typing import Any, Final

import structlog
from litestar import Response, get, post
from litestar.response import Redirect, Template

from api.admission import FOR_ANYONE, requires
from api.authentication import ApiTokens
from api.console import cookie, forms
from api.console.gate import COOKIE, ROOT, SIGN_IN, SIGN_OUT
from api.console.layout import Text, links_for
from api.console.same_origin import is_plain
from api.doors.decide import user_agent_of
from api.http.json_body import StrictRequest
from api.http.problems import INVALID_TOKEN
from api.resources.api_calls import InjectedCall
from api.service import InjectedService, Service
from domain.authority import ApiCall
from domain.errors import Unauthenticated
from domain.secret import MalformedSecretError, Secret, parse

NOT_SIGNED_IN: Final = "This is no API token that is valid here."
UNKNOWN_PROXY_SEEN: Final = (
    "a browser signed in over https through a proxy that SCIM_LEDGER_TRUSTED_PROXIES does not "
    "name, or that hands on no X-Forwarded-Host and X-Forwarded-Proto: setup links begin with a "
    "wrong address, and the trail tells the proxy's"
)
IS_SCIM: Final = "This is a SCIM token, for an identity provider. The console needs an API token."
_OURS: Final = re.compile(rf"{ROOT}(?:/[0-9a-z-]+)*(?:\?[!-~]*)?", re.ASCII)
_TO_MAX_LENGTH: Final = 2000
_log: Final = structlog.get_logger()
_PORT: Final = 8080
"""Of the example, where the service listens on none of its own."""


@get(SIGN_IN, include_in_schema=False, opt=FOR_ANYONE)
async def sign_in_page(
    request: StrictRequest,
    service: InjectedService,
    to: Text = None,
    lost: Text = None,
) -> Template:
    """The form; where it would be refused, what to do instead.

    to: the page that was asked for. lost: given where a form was sent that no session came with.
    """
    if is_plain(request.scope, service.doors.client_addresses):
        _, port = request.scope["server"] or ("", None)
        context = {"port": port or _PORT}
        return Template("needs_https.html", context=context, media_type="text/html")
    return _form(to, None, is_lost=lost is not None)


@post(SIGN_IN, include_in_schema=False, opt=FOR_ANYONE, status_code=303)
async def sign_in(request: StrictRequest, service: InjectedService) -> Response[Any]:
    """Open a session; its secret goes into a cookie that no script can read."""
    addresses = service.doors.client_addresses
    service.doors.throttle_source(addresses.address(request.scope), "api")
    fields = await forms.read(request)
    to = fields.get("to")
    try:
        secret = parse(fields.get("token", ""))
    except MalformedSecretError:
        service.doors.refusals.count("malformed", "api")
        return _form(to, NOT_SIGNED_IN)
    if secret.kind.startswith("scim_"):
        service.doors.refusals.count("unknown", "api")
        return _form(to, IS_SCIM)
    try:
        opened = await _open_session(request, service, secret)
    except Unauthenticated:
        return _form(to, NOT_SIGNED_IN)
    name = cookie.name_of_new(request.scope, addresses)
    if name == cookie.SECURE and addresses.origin(request.scope).scheme == "http":
        _log.warning(UNKNOWN_PROXY_SEEN)
    return Redirect(_target(to), status_code=303, cookies=[cookie.holding(name, opened)])


async def _open_session(request: StrictRequest, service: Service, secret: Secret) -> Secret:
    caller = await ApiTokens(service).caller(request.scope, secret)
    source = service.doors.client_addresses.address(request.scope)
    agent = user_agent_of(request.scope)
    call = ApiCall(caller.api_token.id, source, agent, caller.digests)
    _, opened = await service.ledger.open_session(by=call)
    return opened


@post(SIGN_OUT, include_in_schema=False, opt=requires(None), status_code=303)
async def sign_out(
    request: StrictRequest, service: InjectedService, call: InjectedCall
) -> Redirect:
    """End the session: its API token is revoked."""
    await service.ledger.close_session(by=call)
    name = request.scope["state"][COOKIE]
    return Redirect(SIGN_IN, status_code=303, cookies=[cookie.emptied(name)])


@get(ROOT, include_in_schema=False, opt=requires(None), status_code=200)
async def console(request: StrictRequest) -> Response[Any]:
    """The first page that the caller may see."""
    links = links_for(frozenset(request.user.api_token.permissions))
    if not links:
        return Template("nothing.html", media_type="text/html")
    return Redirect(links[0].path, status_code=303)


def _form(to: str | None, mistake: str | None, *, is_lost: bool = False) -> Template:
    """Nothing of what was sent is in the page again, but where to go afterwards."""
    return Template(
        "sign_in.html",
        context={"to": _target(to), "mistake": mistake, "is_lost": is_lost},
        media_type="text/html",
        status_code=200 if mistake is None else 401,
        headers=None if mistake is None else {"WWW-Authenticate": INVALID_TOKEN},
    )


def _target(to: str | None) -> str:
    """A page of this console, whatever was asked for."""
    if to is None or len(to) > _TO_MAX_LENGTH or _OURS.fullmatch(to) is None:
        return ROOT
    return to


ROUTES: Final = (sign_in_page, sign_in, sign_out, console)
