"""Remember refused secrets in one process, so that a flood of a bad one costs no commands.

It never decides: the gate says no to each presentation by itself. Remembered is only why, and that
the refusal is on record for this minute. That a token is suspended, or good from other networks, is
remembered for seconds.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from datetime import datetime
from typing import Final, NamedTuple

from domain.errors import TokenRefused

MAX_KNOWN: Final = 10_000


class RecordedRefusal(NamedTuple):
    """A refusal that needs no record before `due_at` (ledger time).

    cause: what is raised for it.
    """

    cause: type[TokenRefused]
    due_at: datetime


class RecentRefusals:
    """By secret and what the gate said of it, bounded;
    the longest remembered is forgotten first.
    """

    def __init__(self, *, max_known: int = MAX_KNOWN) -> None:
        self._max_known = max_known
        self._known: OrderedDict[Hashable, RecordedRefusal] = OrderedDict()
        self._recording: dict[Hashable, asyncio.Task[RecordedRefusal]] = {}

    def __len__(self) -> int:
        return len(self._known)

    async def cause(
        self, asked: Hashable, *, at: datetime, record: Callable[[], Awaitable[RecordedRefusal]]
    ) -> TokenRefused:
        """Why the secret that `asked` stands for is refused;
        `record` is run when the memory does not say.

        Presentations that arrive together share one run, and its failure.
        """
        known = self._known.get(asked)
        if known is None or at >= known.due_at:
            task = self._recording.get(asked)
            if task is None:
                task = self._recording[asked] = asyncio.create_task(self._record(asked, record))
            try:
                known = await asyncio.shield(task)
            finally:
                del task  # its failure has this frame, which must not have it
        return known.cause()

    async def _record(
        self, asked: Hashable, record: Callable[[], Awaitable[RecordedRefusal]]
    ) -> RecordedRefusal:
        try:
            known = await record()
        finally:
            del self._recording[asked]
        self._known.pop(asked, None)
        if len(self._known) >= self._max_known:
            self._known.popitem(last=False)
        self._known[asked] = known
        return known
