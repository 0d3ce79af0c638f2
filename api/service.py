"""The services that handlers are given: ledger, queries, doors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from api.bulk_revocation import BulkRevoker
from api.doors.decide import Doors
from api.http.cursor import Cursors
from api.telemetry.instruments import Instruments
from domain.api_token.permissions import Permission
from domain.errors import Unauthenticated
from domain.eventstore.lookups.api_tokens import Caller
from domain.ledger import TokenLedger
from projections.audit_trail.queries import AuditQueries
from projections.figures.queries import FigureQueries
from projections.follow.ledger_head import LedgerHeadWatch
from projections.scim_tokens.as_of import AsOfQueries
from projections.scim_tokens.queries import TokenQueries
from projections.scim_tokens.secrets import SecretQueries
from projections.token_activity.queries import ActivityQueries
from projections.usage.queries import UsageQueries
from projections.warnings.queries import WarningQueries


@dataclass(frozen=True, slots=True)
class Service:
    """The ledger, the queries, and what the edge needs besides them. One per process.

    has_console: whether it has pages for people. has_upstream: whether a SCIM service stands behind
    our own /scim/v2. scim_base_url: what identity providers are told, where that was set.
    """

    ledger: TokenLedger
    tokens: TokenQueries
    cursors: Cursors
    doors: Doors
    as_of: AsOfQueries
    audit: AuditQueries
    usage: UsageQueries
    warnings: WarningQueries
    secrets: SecretQueries
    activity: ActivityQueries
    heads: LedgerHeadWatch
    bulk: BulkRevoker
    figures: FigureQueries
    instruments: Instruments
    has_console: bool
    has_upstream: bool
    scim_base_url: str | None


InjectedService: TypeAlias = NamedDependency[SkipValidation[Service]]
"""The parameter `service` of a handler."""


def visible_teams(allowed: Sequence[UUID] | None, asked: UUID | None) -> Sequence[UUID] | None:
    """The teams to read for a caller, None for all: a foreign one looks like one without tokens."""
    if asked is None:
        return allowed
    return (asked,) if allowed is None or asked in allowed else ()


async def admitted_again(service: Service, caller: Caller, permission: Permission) -> Caller:
    """The same caller, as it stands now: whose answer takes long may have been revoked meanwhile.

    Raises Unauthenticated, PermissionDenied, Unavailable.
    """
    found = await service.ledger.api_token_lookup.find(caller.digests)
    if found is None:
        raise Unauthenticated("the API token is not valid")
    found.api_token.authorise(permission, at=found.at, digests=[found.digest])
    return found
