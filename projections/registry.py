"""Every projection of this release, in one list."""

from collections.abc import Sequence
from typing import Final

from projections import audit_trail, scim_tokens, token_sources, usage
from projections.projection import Projection

PROJECTIONS: Final[Sequence[Projection]] = (
    scim_tokens.PROJECTION,
    audit_trail.PROJECTION,
    usage.PROJECTION,
    token_sources.PROJECTION,
)
