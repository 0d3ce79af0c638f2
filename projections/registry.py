"""Every projection of this release, in one list."""

from collections.abc import Sequence
from typing import Final

from projections.audit_trail import view as audit_trail
from projections.projection import Projection
from projections.scim_tokens import view as scim_tokens
from projections.token_sources import view as token_sources
from projections.usage import view as usage

PROJECTIONS: Final[Sequence[Projection]] = (
    scim_tokens.PROJECTION,
    audit_trail.PROJECTION,
    usage.PROJECTION,
    token_sources.PROJECTION,
)
