"""Where a page of a list ended."""

from datetime import datetime
from uuid import UUID

import msgspec


class PageEnd(msgspec.Struct, frozen=True):
    """The last one on a page, of a list by (created_at, id): the next page goes on behind it."""

    created_at: datetime
    id: UUID
