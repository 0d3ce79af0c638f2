"""Run a `Teller` on a thread beside the runner."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

from domain.commands import ClockAndIds
from domain.scim_token.rotation import DEFAULT_RULE, FinishRule
from projections.warnings.teller import Teller

STOP_TIMEOUT_S: Final = 5.0


class Telling:
    """A context manager: tells what is due for as long as its block runs.

    is_leading: whether this process leads the views; only then does it anything.
    """

    def __init__(
        self,
        conninfo: str,
        sources: ClockAndIds,
        *,
        is_leading: Callable[[], bool],
        finish_rule: FinishRule = DEFAULT_RULE,
    ) -> None:
        self._conninfo = conninfo
        self._sources = sources
        self._is_leading = is_leading
        self._finish_rule = finish_rule
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="warnings", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._follow())

    async def _follow(self) -> None:
        teller_of = Teller(self._conninfo, self._sources, finish_rule=self._finish_rule)
        async with teller_of as teller:
            await teller.follow(self._is_leading, self._stopping)
