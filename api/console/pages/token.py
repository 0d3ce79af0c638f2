"""One token: how it stands, which of its secrets was used when, by whom, and its history."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
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
from domain.networks.plain import is_outside
from projections.audit_trail.view import AuditEvent
from projections.scim_tokens.secrets import TokenSecret
from projections.scim_tokens.view import TokenDocument
from projections.token_activity.queries import Activity

PATH: Final = "/console/tokens/{token_id:uuid}"
COMMANDS: Final = (
    *("rotate", "complete", "cancel", "suspend", "resume", "change", "revoke"),
    *("setup-link", "end-setup-link", "allow-networks", "allow-any-network"),
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
    "allow-networks": "Good from its networks alone, everywhere, from now on.",
    "allow-any-network": "Good from anywhere again.",
}
OVERLAPS: Final = {30: "30 days", 7: "7 days", 1: "1 day", 0: "not at all"}
BUSY_WITHIN: Final = timedelta(days=7)
"""Whoever revokes a token that was used since then is asked once more."""
HISTORY_MAX_BYTES: Final = 12_000
"""What the history and the networks may take of a page of 40 KB; the trail has all of it."""
SECRETS_MAX: Final = 12
"""How many of a token's secrets its page tells; `GET /scim-token/{id}/secrets` tells of all."""
NETWORKS_SHOWN: Final = 12
"""How many networks are told beside the form; `GET /scim-token/{id}/networks` tells all."""
_LINE_BYTES: Final = 150
"""Of a line of the history, besides its sentence."""
_NETWORK_BYTES: Final = 120
"""Of a network that is told, and of the mark of who is outside of all."""


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
    document, networks, secrets = await service.secrets.with_token(
        token_id, teams=caller.api_token.teams, ledger_head=caller.ledger_head
    )
    rotation = in_rotation(secrets, caller.at)
    seen = _glance(document, rotation, caller)
    given = given or {}
    networks_text = given.get("networks", "\n".join(networks))
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
        is_so=is_so(done, seen.token, rotates=bool(rotation), networks=networks),
        refused=refused,
        given=given,
        networks=networks,
        networks_max=NETWORKS_SHOWN,
        networks_mark=mark_of(networks),
        networks_text=networks_text,
        key=service.ledger.clock_and_ids.new_id(),
        overlaps=OVERLAPS,
        looked_at=caller.at.isoformat(timespec="milliseconds"),
        is_busy=_is_busy(seen, caller),
        tomorrow=day_after(caller.at),
        **await _activity(
            service,
            caller,
            token_id,
            networks=networks,
            room=HISTORY_MAX_BYTES
            - len(escape(networks_text).encode())
            - len(networks[:NETWORKS_SHOWN]) * _NETWORK_BYTES,
        ),
    )


def mark_of(networks: Sequence[str]) -> str:
    """Tells the networks that a page has shown from others, in less room than they may take."""
    return sha256(",".join(networks).encode()).hexdigest()


def is_so(
    done: str | None, token: TokenDocument, *, rotates: bool, networks: Sequence[str]
) -> bool:
    """Whether a token stands as `DONE` says. It does not where somebody did otherwise since: the
    address is opened again, or a form was sent that had been sent before, which did nothing.
    """
    holds = {
        "suspend": token.suspended_at is not None,
        "resume": token.suspended_at is None,
        "complete": not rotates,
        "cancel": not rotates,
        "revoke": token.revoked_at is not None,
        "allow-networks": bool(networks),
        "allow-any-network": not networks,
    }
    return holds.get(done or "", True)


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


async def _activity(
    service: Service, caller: Caller, token_id: UUID, *, networks: Sequence[str], room: int
) -> dict[str, Any]:
    """What may be known by those alone who may read the trail. room: as of `_history`."""
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
        "outside": {each.source for each in found.presenters if is_outside(each.source, networks)},
        # who used the secret is told by the table beside it
        "history": list(_history(found.facts, room)),
    }


def _history(facts: Iterable[AuditEvent], room: int) -> Iterator[tuple[AuditEvent, str]]:
    """The newest facts with their sentences, as many as have room whatever somebody wrote there.

    room: in bytes.
    """
    left = room
    for fact in facts:
        told = sentence(replace(fact, door=_door(fact.door)))
        left -= len(escape(told).encode()) + _LINE_BYTES
        if left < 0:
            return
        yield fact, told


def _door(door: str | None) -> str | None:
    return None if door == "api" else door


ROUTES: Final = (token, after_a_command)
