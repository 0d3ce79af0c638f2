"""Run a `Teller` on a thread beside the runner."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final, Self

from domain.commands import ClockAndIds
from domain.eventstore.known_head.requirement import watched
from domain.instruments import Gauge
from domain.scim_token.rotation import DEFAULT_RULE, FinishRule
from projections.warnings.teller import Teller

STOP_TIMEOUT_S: Final = 5.0
STALLED_AFTER_S: Final = 60.0
"""Without a step: each is bounded by the time-outs of a few statements and of one append."""


class Telling:
    """A context manager: tells what is due for as long as its block runs.

    is_leading: whether this process leads the views; only then does it anything.
    head_file: as of `TokenLedger`. since: as of `Rounds`.
    """

    def __init__(
        self,
        conninfo: str,
        clock_and_ids: ClockAndIds,
        *,
        is_leading: Callable[[], bool],
        finish_rule: FinishRule = DEFAULT_RULE,
        head_file: Path | None = None,
        since: Mapping[str, Gauge] = {},
    ) -> None:
        self._is_leading = is_leading
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="warnings", daemon=True)
        self._teller = Teller(
            conninfo, clock_and_ids, finish_rule=finish_rule, head_file=head_file, since=since
        )

    def goes_on(self) -> bool:
        """Whether the thread lives and does not stand still: nobody else tells what is due, and
        where nothing is due, nothing else would show it.
        """
        still_s = monotonic() - self._teller.stepped_at
        return self._thread.is_alive() and still_s < STALLED_AFTER_S

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
        async with self._teller as teller, watched(teller.known_head, teller.reads):
            await teller.follow(self._is_leading, self._stopping)
