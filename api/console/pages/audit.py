"""The audit trail in sentences: who did what, when, from where, and why."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import urlencode
from uuid import UUID

from litestar import Response, get
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter, SkipValidation
from litestar.response import Template
from msgspec.structs import replace

from api.admission import requires
from api.console import forms
from api.console.days import end_of, start_of
from api.console.layout import Text, page
from api.console.sentences import label, sentence
from api.errors import BadRequest
from api.http.json_body import StrictRequest
from api.resources.audit.formats import Format
from api.resources.audit.trail import answer
from api.service import InjectedService, visible_teams
from domain.api_token.permissions import Permission
from domain.eventstore.lookups.api_tokens import Caller
from domain.networks.plain import Network, plain_network
from projections.audit_trail.statement import AuditFilter, Span
from projections.audit_trail.view import KINDS, AuditEvent, kinds_left

PATH: Final = "/console/audit"
PER_PAGE: Final = 25
WHAT: Final = {"": "anything"} | {kind: label(kind) for kind in sorted(KINDS, key=label)}
OUTCOMES: Final = {"": "any", "success": "done", "refused": "refused"}
FORMATS: Final = {"csv": Format.CSV, "ndjson": Format.NDJSON}
_IDS: Final = ("team", "token", "user", "api_token")
_POSITION_MAX: Final = (1 << 63) - 1
_MAY: Final = requires(Permission.AUDIT_READ)

From: TypeAlias = Annotated[str | None, QueryParameter(name="from", required=False)]


def asked_for(  # noqa: PLR0917 - a filter each
    team: Text = None,
    token: Text = None,
    user: Text = None,
    api_token: Text = None,
    what: Text = None,
    outcome: Text = None,
    source: Text = None,
    from_: From = None,
    to: Text = None,
) -> Mapping[str, str]:
    """The filters that the query gives, of the page and of its export."""
    return forms.filled(
        {
            "team": team,
            "token": token,
            "user": user,
            "api_token": api_token,
            "what": what,
            "outcome": outcome,
            "source": source,
            "to": to,
            "from": from_,
        }
    )


InjectedFilters: TypeAlias = NamedDependency[SkipValidation[Mapping[str, str]]]
"""The parameter `asked` of a handler."""
_ASKED: Final = {"asked": Provide(asked_for, sync_to_thread=False)}


@get(PATH, include_in_schema=False, opt=_MAY, dependencies=_ASKED)
async def audit(
    request: StrictRequest,
    service: InjectedService,
    asked: InjectedFilters,
    before: Text = None,
) -> Template:
    """One page, newest first. before: the position at which the page before it ended."""
    caller = request.user
    facts: Sequence[AuditEvent] = ()
    older, pinned, mistakes = None, None, dict[str, str]()
    try:
        narrow = _filter(asked, caller)
    except forms.Mistakes as error:
        mistakes = dict(error.by_field)
    else:
        span = Span(after=None if before is None else _position(before))
        found = await service.audit.page(
            narrow, span, limit=PER_PAGE, ledger_head=caller.ledger_head
        )
        facts = found.events
        older = None if found.next is None else _address(asked, before=found.next)
        pinned = _address(asked, before=facts[0].position + 1) if facts else None
    return page(
        request,
        "audit.html",
        title="Audit",
        status=400 if mistakes else 200,
        told=[(fact, _told(fact)) for fact in facts],
        asked=asked,
        mistakes=mistakes,
        older=older,
        pinned=pinned,
        newest=None if before is None else _address(asked),
        exports={name: f"{PATH}/export?{urlencode({'as': name, **asked})}" for name in FORMATS},
        choices={"what": WHAT, "outcome": OUTCOMES},
    )


@get(f"{PATH}/export", include_in_schema=False, opt=_MAY, dependencies=_ASKED)
async def export(
    request: StrictRequest,
    service: InjectedService,
    asked: InjectedFilters,
    as_: Annotated[str, QueryParameter(name="as", required=False)] = "csv",
) -> Response[Any]:
    """Every row that the filters leave, as a file."""
    if as_ not in FORMATS:
        raise BadRequest("The format is none of the choices.")
    try:
        narrow = _filter(asked, request.user)
    except forms.Mistakes as error:
        wrong = "; ".join(f"{name} {detail}" for name, detail in error.by_field.items())
        raise BadRequest(f"A filter is not valid: {wrong}.") from None
    return await answer(request, service, narrow, "newest", None, None, FORMATS[as_])


def _told(fact: AuditEvent) -> str:
    """In a sentence; that an API token was used at the API goes without saying."""
    return sentence(replace(fact, door=None) if fact.door == "api" else fact)


def _filter(asked: Mapping[str, str], caller: Caller) -> AuditFilter:
    """What is asked for. Raises Mistakes, with all of them."""
    mistakes = {
        name: "is none of the choices"
        for name, choices in (("what", WHAT), ("outcome", OUTCOMES))
        if name in asked and asked[name] not in choices
    }
    found: dict[str, Any] = {}
    readers = {
        **dict.fromkeys(_IDS, _uuid),
        "source": _network,
        "from": start_of,
        "to": end_of,
    }
    for name, read in readers.items():
        try:
            found[name] = read(asked[name]) if name in asked else None
        except ValueError as error:
            mistakes[name] = str(error)
    if not mistakes and found["from"] and found["to"] and found["from"] >= found["to"]:
        mistakes["from"] = "must not be after the last day"
    if mistakes:
        raise forms.Mistakes(mistakes)
    team_id: UUID | None = found["team"]
    return AuditFilter(
        teams=visible_teams(caller.api_token.teams, team_id),
        token_id=found["token"],
        user_id=found["user"],
        api_token_id=found["api_token"],
        kinds=kinds_left([asked["what"]] if "what" in asked else None, asked.get("outcome")),
        source=found["source"],
        from_at=found["from"],
        to_at=found["to"],
    )


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ValueError("must be a UUID") from None


def _network(text: str) -> Network:
    try:
        return plain_network(text)
    except ValueError:
        raise ValueError("must be an address or a network, such as 192.0.2.0/24") from None


def _position(text: str) -> int:
    """A place in the trail. Raises BadRequest."""
    if not text.isascii() or not text.isdigit() or int(text[:20]) > _POSITION_MAX:
        raise BadRequest("The page is none of the trail. Open its newest one.")
    return int(text[:20])


def _address(asked: Mapping[str, str], **more: int) -> str:
    query = urlencode({**asked, **more})
    return f"{PATH}?{query}" if query else PATH


ROUTES: Final = (audit, export)
