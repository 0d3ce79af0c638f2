"""A clock that moves when a test says so."""

import os
from datetime import datetime, timedelta
from uuid import uuid4

from domain.ledger import Sources


class HandClock:
    """Shows `now` until it is set anew, backwards too."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        """Move it."""
        self.now += by

    @property
    def sources(self) -> Sources:
        """Sources of a ledger that lives by this clock."""
        return Sources(clock=self, new_id=uuid4, entropy=lambda: os.urandom(32))
