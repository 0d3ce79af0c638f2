"""Every projection of this release, in one list."""

from collections.abc import Sequence
from typing import Final

from projections import scim_tokens
from projections.projection import Projection

PROJECTIONS: Final[Sequence[Projection]] = (scim_tokens.PROJECTION,)
