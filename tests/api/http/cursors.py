"""Cursors to one place in every list; another process makes them, too, and loads nothing else."""

from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Final
from uuid import UUID

from api.http.cursor import Cursors
from domain.eventstore.lookups.page_end import PageEnd
from projections.audit_trail.statement import AuditFilter
from projections.audit_trail.view import KINDS, kinds_left
from projections.scim_tokens.filters import TokenFilter


async def all_there() -> None:
    """No key was added since this process began."""


CURSORS: Final = Cursors([b"k" * 32], require_all_keys=all_there)


def of_every_list() -> list[str]:
    """Cursors to one place in lists that are filtered in many ways."""
    place = PageEnd(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1))
    ids = [UUID(int=number) for number in range(9)]
    audit = [
        AuditFilter(teams=ids, kinds=kinds_left(asked, outcome), source=ip_network("192.0.2.0/24"))
        for asked in (None, sorted(KINDS), sorted(KINDS)[::3])
        for outcome in (None, "success", "refused")
    ]
    scopes = [
        *(("audit", "newest", narrow) for narrow in audit),
        ("scim-token", place.created_at, TokenFilter(ids, "Okta", created_by=ids[1])),
        ("console tokens", tuple(ids), {"team": str(ids[0]), "name": "Okta"}),
    ]
    return [CURSORS.encode(place, scope=scope) for scope in scopes]
