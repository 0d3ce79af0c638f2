"""Tell what is due, beside the runner and on connections of its own.

What is due is in the views, and what was told is in the state of its token. So it makes no
difference whether this process was away for a second or for a week, and none whether two do it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Final, Self

import structlog

from domain.commands import ClockAndIds
from domain.errors import LedgerError
from domain.eventstore.known_head.requirement import required_by
from domain.eventstore.ledger_clock import LedgerClock, read_ledger_time
from domain.instruments import Gauge
from domain.postgres.primary import Primary
from domain.postgres.read_pool import ReadPool
from domain.scim_token.rotation import DEFAULT_RULE, FinishRule
from domain.warner import Due, Warner
from projections.faults import told
from projections.follow import locks
from projections.follow.ledger_head import LedgerHeadWatch
from projections.registry import PROJECTIONS
from projections.warnings.due import LIMIT, DueWarnings
from projections.warnings.rounds import Rounds

EVERY_S: Final = 2.0
"""Between two rounds."""

AT_ONCE_S: Final = 0.5
"""Between two rounds where the first one left something."""

TOGETHER: Final = 50
"""Commands of one append: the doors wait for it."""

logger = structlog.get_logger()


class BesideAnotherRelease(LedgerError):
    """Nothing is told as long as another release follows the ledger, too."""


class Teller:
    """Asks what is due, and has it decided and stored.

    conninfo: of the app role. head_file: as of `TokenLedger`. since: as of `Rounds`.
    due: what the views are asked. warner: who has it decided.
    stepped_at: when it last began with something that takes seconds at most, monotonic.
    """

    def __init__(
        self,
        conninfo: str,
        clock_and_ids: ClockAndIds,
        *,
        finish_rule: FinishRule = DEFAULT_RULE,
        head_file: Path | None = None,
        since: Mapping[str, Gauge] = {},
    ) -> None:
        self.known_head = required_by(head_file)
        primary = Primary(conninfo, requires=self.known_head)
        self._clock = LedgerClock(clock_and_ids.clock)
        self.reads = ReadPool(conninfo, primary=primary, size=1)
        self._heads = LedgerHeadWatch(self.reads)
        self.due = DueWarnings(self.reads, finish_rule=finish_rule)
        self.rounds = Rounds(since, clock_and_ids.clock)
        self.stepped_at = monotonic()
        self.warner = Warner(primary, self._clock, new_id=clock_and_ids.new_id)

    async def follow(self, is_leading: Callable[[], bool], stopping: asyncio.Event) -> None:
        """Round after round until told to stop, while this process leads the views.

        While another release leads views beside it, nothing is told: the views of an older one
        would stop at a kind of event that they do not know.

        An error ends its round alone, and is logged when it is another than that of the round
        before.
        """
        failing = ""
        while not stopping.is_set():
            self.stepped_at = monotonic()
            pause_s = EVERY_S
            try:
                if not is_leading():
                    self.rounds.follow()
                else:
                    self.rounds.lead()
                    await self._let_another_release_go_first()
                    if await self.round(stopping):
                        pause_s = AT_ONCE_S
                if failing:
                    failing = ""
                    logger.warning("warnings.told_again")
            except Exception as error:  # noqa: BLE001 - whatever broke, the next round tries again
                said = str(error) if isinstance(error, LedgerError) else told(error)
                if said != failing:
                    failing = said
                    logger.error("warnings.failed", error=said, retry_s=EVERY_S)  # noqa: TRY400
            try:
                await asyncio.wait_for(stopping.wait(), pause_s)
            except TimeoutError:
                continue

    async def round(self, stopping: asyncio.Event | None = None) -> bool:
        """Tell what is due now, some hundreds at most; whether more may be due.

        Raises Unavailable within a few seconds when the store is away.
        """
        is_more = False
        errors: list[BaseException] = []
        failed: list[BaseException] = []
        at = await read_ledger_time(self.reads, self._clock)
        ledger_head = await self._heads.now()
        for question, ask in self.due.questions.items():
            self.stepped_at = monotonic()
            try:
                due, is_last = await ask(at, ledger_head)
            except LedgerError as unreadable:  # of one view: another can be read
                errors.append(unreadable)
                continue
            is_more |= len(due) >= LIMIT
            failed = []
            for start in range(0, len(due), TOGETHER):
                if stopping is not None and stopping.is_set():
                    return False
                self.stepped_at = monotonic()
                failed += await self._tell(due[start : start + TOGETHER])
            self.rounds.asked(question, is_last=is_last, is_told=not failed)
            errors += failed
        try:
            if errors:
                raise errors[0]
        finally:
            for each in (errors, failed):
                each.clear()  # what is raised has this frame, which must not have it
        return is_more

    async def _let_another_release_go_first(self) -> None:
        """Raises BesideAnotherRelease."""
        ((is_beside,),) = await self.reads.fetch(
            locks.ANOTHER_RELEASE_LEADS, [locks.named(PROJECTIONS)]
        )
        if is_beside:
            raise BesideAnotherRelease(
                "a process of another release leads views: not before it ends"
            )

    async def _tell(self, due: Sequence[Due]) -> list[BaseException]:
        """What failed: one that cannot be told keeps no other back."""
        answers = await asyncio.gather(*map(self.warner.warn, due), return_exceptions=True)
        return [answer for answer in answers if answer is not None]

    async def aclose(self) -> None:
        """Hang up."""
        await self.warner.aclose()
        await self.reads.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
