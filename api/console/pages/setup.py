"""The setup page: whoever holds a link has a secret made and shown, once, and sees it arrive.

Outside of the sign-in: the link says it all. To open it spends nothing, since programs open links
to preview them.
"""

from typing import Any, Final
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect, Template

from api.admission import FOR_ANYONE
from api.console.pages.reveal import base_url
from api.console.same_origin import is_plain
from api.doors.decide import user_agent_of
from api.http import problems
from api.http.json_body import StrictRequest
from api.http.parameters import ANY_QUERY
from api.http.problems import Answer
from api.resources.scim_token.setup_link import ROOT
from api.service import InjectedService, Service
from domain.errors import NotFound, Refusal, SecretAlreadyShown
from domain.eventstore.lookups.setup_links import OpenedLink
from domain.networks.plain import is_outside
from domain.scim_token.events import Refused
from domain.scim_token.handover.decide import end_of
from domain.setup_link import read_code
from projections.audit_trail.statement import AuditFilter, Span
from projections.audit_trail.view import AuditEvent, kind_of, secret_number

PATH: Final = f"{ROOT}/{{token:str}}/{{code:str}}"
_DOOR: Final = "api"
_FOR_CONTACTS: Final = FOR_ANYONE | ANY_QUERY
"""Mail programs and senders of newsletters add parameters of their own to a link."""


@get(PATH, include_in_schema=False, opt=_FOR_CONTACTS)
async def setup(
    request: StrictRequest, service: InjectedService, token: FromPath[str], code: FromPath[str]
) -> Template:
    """What the link is about, and once its secret was shown, whether it was used."""
    opened = await _open(request, service, token, code)
    return _nothing() if opened is None else await _show(request, service, opened)


@post(PATH, include_in_schema=False, opt=_FOR_CONTACTS, status_code=200)
async def show_secret(
    request: StrictRequest, service: InjectedService, token: FromPath[str], code: FromPath[str]
) -> Response[Any]:
    """Make the secret, and show it in this answer only."""
    opened, held = await _open(request, service, token, code), read_code(code)
    if opened is None or held is None:
        return _nothing()
    try:
        after, secret = await service.ledger.reveal_by_setup_link(
            opened.token.id,
            held,
            source=service.doors.client_addresses.address(request.scope),
            user_agent=user_agent_of(request.scope),
        )
    except SecretAlreadyShown:
        return Redirect(request.scope["path"], status_code=303)
    except NotFound:
        return _nothing()
    except Refusal as error:
        return await _show(request, service, opened, refused=problems.answer(error))
    return _page(
        "setup_secret.html",
        name=after.name,
        secret=secret.reveal(),
        here=request.scope["path"],
        base_url=base_url(request, service),
    )


async def _open(
    request: StrictRequest, service: Service, token: str, code: str
) -> OpenedLink | None:
    """The link; None for one that opens nothing, which is counted as a sign-in that failed is."""
    source = service.doors.client_addresses.address(request.scope)
    service.doors.throttle_source(source, _DOOR)
    token_id, held = _id(token), read_code(code)
    if token_id is None or held is None:
        service.doors.refusals.count("malformed", _DOOR)
        return None
    try:
        return await service.ledger.open_setup_link(token_id, held)
    except NotFound:
        service.doors.refusals.count("unknown", _DOOR)
        return None


async def _show(
    request: StrictRequest, service: Service, opened: OpenedLink, *, refused: Answer | None = None
) -> Template:
    link, first_used_at = opened.link, await _first_use(service, opened)
    return _page(
        "setup.html",
        name=opened.token.name,
        link=link,
        ends_at=end_of(link, opened.token),
        now=opened.at,
        first_used_at=first_used_at,
        elsewhere=None if first_used_at else await _refused_elsewhere(service, opened),
        refused=refused,
        needs_https=is_plain(request.scope, service.doors.client_addresses),
        here=request.scope["path"],
        base_url=base_url(request, service),
    )


async def _first_use(service: Service, opened: OpenedLink) -> str | None:
    """Of the secret that the link has shown."""
    if opened.link.secret is None:
        return None
    secrets = await service.secrets.of_token(
        opened.token.id, teams=None, ledger_head=opened.ledger_head
    )
    return next((each.first_used_at for each in secrets if each.id == opened.link.secret), None)


async def _refused_elsewhere(service: Service, opened: OpenedLink) -> AuditEvent | None:
    """The newest refusal of that secret, where its presenter would not be let in now, either: the
    contact would wait for a call that has come, and cannot see the trail.
    """
    secret, token = opened.link.secret, opened.token
    if secret is None or token.refused_at is None or not token.networks:
        return None
    of_the_secret = AuditFilter(
        token_id=token.id, kinds=(kind_of(Refused.topic),), secret=secret_number(secret)
    )
    page = await service.audit.page(of_the_secret, Span(), limit=1, ledger_head=opened.ledger_head)
    return next((each for each in page.events if is_outside(each.source, token.networks)), None)


def _nothing() -> Template:
    """One answer for a link that never was, has ended, or is another token's."""
    return _page("setup_over.html", status=404)


def _page(
    template: str, *, status: int = 200, refused: Answer | None = None, **context: Any
) -> Template:
    return Template(
        template,
        context={"refused": refused and refused.problem, **context},
        status_code=refused.problem.status if refused else status,
        media_type="text/html",
        headers=dict(refused.headers) if refused else None,
    )


def _id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


ROUTES: Final = (setup, show_secret)
