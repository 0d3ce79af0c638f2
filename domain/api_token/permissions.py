"""What an API token may allow."""

from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """What an API token allows."""

    SCIM_TOKENS_READ = "scim_tokens:read"
    SCIM_TOKENS_WRITE = "scim_tokens:write"
    AUDIT_READ = "audit:read"
    PROJECTIONS_MANAGE = "projections:manage"
    API_TOKENS_MANAGE = "api_tokens:manage"
    POLICIES_MANAGE = "policies:manage"
    LEAKS_REPORT = "leaks:report"


DEPLOYMENT_WIDE: Final = frozenset(
    {
        Permission.PROJECTIONS_MANAGE,
        Permission.API_TOKENS_MANAGE,
        Permission.POLICIES_MANAGE,
        Permission.LEAKS_REPORT,
    }
)
"""They are about no team, or above it, so a token that is confined to teams has them only
where they were asked for.
"""
