"""What the handlers of one process work with, and how they reach it from a request."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from litestar.types import Scope

from api.doors.decide import Doors
from api.http.cursor import Cursors
from api.http.json_body import StrictRequest
from domain.eventstore.api_token_lookup import Caller
from domain.ledger import TokenLedger
from projections.audit_trail.queries import AuditQueries
from projections.follow.ledger_head import HeadWatch
from projections.scim_tokens.as_of import AsOfQueries
from projections.scim_tokens.queries import TokenQueries
from projections.usage.queries import UsageQueries


@dataclass(frozen=True, slots=True)
class Service:
    """The ledger, the queries, and what the edge needs besides them. One per process."""

    ledger: TokenLedger
    tokens: TokenQueries
    cursors: Cursors
    doors: Doors
    as_of: AsOfQueries
    audit: AuditQueries
    usage: UsageQueries
    heads: HeadWatch


def service_of(request: StrictRequest) -> Service:
    """The process's service."""
    service: Service = request.app.state.service
    return service


def caller_of(scope: Scope) -> Caller:
    """Who called: set by the edge before any handler runs."""
    caller: Caller = scope["state"]["caller"]
    return caller


def visible_teams(allowed: Sequence[UUID] | None, asked: UUID | None) -> Sequence[UUID] | None:
    """The teams to read for a caller, None for all: a foreign one looks like one without tokens."""
    if asked is None:
        return allowed
    return (asked,) if allowed is None or asked in allowed else ()
