"""One token: how it stands, which of its secrets was used when, by whom, and its history."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from litestar import get
from litestar.params import FromPath
from litestar.response import Redirect, Template
from markupsafe import escape
from msgspec.structs import replace

from api.admission import requires
from api.console import charts
from api.console.days import day_after
from api.console.instants import read
from api.console.layout import Text, page
from api.console.sentences import sentence
from api.console.token_rows import TokenGlance, decode, glance
from api.http.json_body import StrictRequest
from api.http.problems import Answer
from api.service import InjectedService, Service
from domain.api_token.permissions import Permission
from domain.eventstore.lookups.api_tokens import Caller
from projections.audit_trail.view import AuditEvent
from projections.scim_tokens.secrets import TokenSecret
from projections.scim_tokens.view import TokenDocument
from projections.token_activity.queries import Activity

PATH: Final = "/console/tokens/{token_id:uuid}"
COMMANDS: Final = (
    *("rotate", "complete", "cancel", "suspend", "resume", "change", "revoke"),
    *("setup-link", "end-setup-link"),
)
DONE: Final = {
    "rotated": "The new secret is stored.",
    "complete": "The older secret has ended, everywhere.",
    "cancel": "The newer secret has ended, everywhere. The older one goes on.",
    "suspend": "Suspended, everywhere, from now on.",
    "resume": "No longer suspended.",
    "revoke": "Revoked, everywhere, from now on.",
    "change": "Changed.",
    "end-setup-link": "The setup link that was made before opens nothing any more.",
}
OVERLAPS: Final = {30: "30 days", 7: "7 days", 1: "1 day", 0: "not at all"}
BUSY_WITHIN: Final = timedelta(days=7)
"""Whoever revokes a token that was used since then is asked once more."""
HISTORY_MAX_BYTES: Final = 14_000
"""What the history may take of a page of 40 KB; the trail has all of it."""
SECRETS_MAX: Final = 12
"""How many of a token's secrets its page tells; `GET /scim-token/{id}/secrets` tells of all."""
_LINE_BYTES: Final = 150
"""Of a line of the history, besides its sentence."""


@get(PATH, include_in_schema=False, opt=requires(Permission.SCIM_TOKENS_READ))
async def token(
    request: StrictRequest,
    service: InjectedService,
    token_id: FromPath[UUID],
    done: Text = None,
) -> Template:
    """Also of a revoked token. done: what was just done to it, or long ago, by the same address."""
    return await show(request, service, token_id, done=done)


@get(
    [f"{PATH}/{command}" for command in COMMANDS],
    include_in_schema=False,
    opt=requires(Permission.SCIM_TOKENS_READ),
)
async def after_a_command(token_id: FromPath[UUID]) -> Redirect:
    """Where a form was sent, asked for again: there is nothing to see but the token."""
    return Redirect(f"/console/tokens/{token_id}", status_code=303)


async def show(
    request: StrictRequest,
    service: Service,
    token_id: UUID,
    *,
    done: str | None = None,
    refused: Answer | None = None,
    given: dict[str, str] | None = None,
) -> Template:
    """The page: two statements besides the one for the session. refused: a command that was."""
    caller = request.user
    document, secrets = await service.secrets.with_token(
        token_id, teams=caller.api_token.teams, ledger_head=caller.ledger_head
    )
    rotation = in_rotation(secrets, caller.at)
    seen = _glance(document, rotation, caller)
    return page(
        request,
        "token.html",
        title=seen.token.name,
        seen=seen,
        token=seen.token,
        secrets=shown_secrets(secrets, caller.at),
        more=len(secrets) - SECRETS_MAX,
        newest=next((each.id for each in reversed(secrets) if _is_good(each, caller.at)), None),
        rotation=rotation if seen.state in {"rotating", "suspended"} else (),
        done=DONE.get(done or ""),
        is_so=is_so(done, seen.token, rotates=bool(rotation)),
        refused=refused,
        given=given or {},
        key=service.ledger.clock_and_ids.new_id(),
        overlaps=OVERLAPS,
        looked_at=caller.at.isoformat(timespec="milliseconds"),
        is_busy=_is_busy(seen, caller),
        tomorrow=day_after(caller.at),
        **await _activity(service, caller, token_id),
    )


def is_so(done: str | None, token: TokenDocument, *, rotates: bool) -> bool:
    """Whether a token stands as `DONE` says. It does not where somebody did otherwise since: the
    address is opened again, or a form was sent that had been sent before, which did nothing.
    """
    match done:
        case "suspend":
            return token.suspended_at is not None
        case "resume":
            return token.suspended_at is None
        case "complete" | "cancel":
            return not rotates
        case "revoke":
            return token.revoked_at is not None
        case _:
            return True


def in_rotation(secrets: Sequence[TokenSecret], at: datetime) -> Sequence[TokenSecret]:
    """The older and the newer one where two secrets are good, the oldest first; none elsewhere.

    They need not be neighbours: between them are those that cancelled rotations made.
    """
    good = [each for each in secrets if _is_good(each, at)]
    return good[-2:] if len(good) > 1 else ()


def shown_secrets(secrets: Sequence[TokenSecret], at: datetime) -> Sequence[TokenSecret]:
    """Those that are good and the newest of the others, `SECRETS_MAX` at most, the newest first."""
    by_worth = sorted(secrets, key=lambda each: _is_good(each, at))
    return sorted(by_worth[-SECRETS_MAX:], key=lambda each: each.created_at, reverse=True)


def _is_good(secret: TokenSecret, at: datetime) -> bool:
    return secret.ends_at is None or read(secret.ends_at) > at


def _glance(document: str, rotation: Sequence[TokenSecret], caller: Caller) -> TokenGlance:
    token = decode(document)
    rotating = {token.id} if rotation else ()
    return glance(token, caller.at, rotating=rotating)


def _is_busy(seen: TokenGlance, caller: Caller) -> bool:
    used_at = seen.token.last_used_at
    return used_at is not None and caller.at - read(used_at) < BUSY_WITHIN


async def _activity(service: Service, caller: Caller, token_id: UUID) -> dict[str, Any]:
    """What may be known by those alone who may read the trail."""
    if Permission.AUDIT_READ not in caller.api_token.permissions:
        return {"activity": None, "chart": None, "history": ()}
    found: Activity = await service.activity.of_token(
        token_id, days=charts.DAYS, to_at=caller.at, ledger_head=caller.ledger_head
    )
    return {
        "activity": found,
        "chart": charts.large(found.days, caller.at),
        "summary": charts.summary(found.days, caller.at),
        "since": caller.at - timedelta(days=charts.DAYS - 1),
        # who used the secret is told by the table beside it
        "history": list(_history(found.facts)),
    }


def _history(facts: Iterable[AuditEvent]) -> Iterator[tuple[AuditEvent, str]]:
    """The newest facts with their sentences, as many as have room whatever somebody wrote there."""
    left = HISTORY_MAX_BYTES
    for fact in facts:
        told = sentence(replace(fact, door=_door(fact.door)))
        left -= len(escape(told).encode()) + _LINE_BYTES
        if left < 0:
            return
        yield fact, told


def _door(door: str | None) -> str | None:
    return None if door == "api" else door


ROUTES: Final = (token, after_a_command)
