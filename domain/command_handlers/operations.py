"""What whoever runs the service does about the ledger itself: a loss is declared, the archive
extended.
"""

from datetime import datetime

from domain.archive.extended import ARCHIVE_ID, Archive, Stretch, extend
from domain.authority import Operator
from domain.command_handlers.execution import Execution
from domain.event import Changes, States
from domain.losses.declared import LOSSES_ID, Loss, declare


class OperationCommands(Execution):
    """What `TokenLedger` does on the word of whoever runs the service, and of nobody else."""

    async def declare_loss(self, loss: Loss, *, by: Operator, reason: str) -> None:
        """Write down what is lost.

        The ledger must have been opened without a head file. Raises InvalidValue.
        """

        def decide(_: States, __: datetime) -> Changes:
            return [(LOSSES_ID, declare(loss, by=by.actor, reason=reason))]

        await self._execute(LOSSES_ID, decide, by=by)

    async def extend_archive(self, stretch: Stretch, *, by: Operator) -> None:
        """Write down that a stretch of the ledger stands in a file, before anything leaves it.

        Raises NotTheNextStretch.
        """

        def decide(states: States, _: datetime) -> Changes:
            archive = states.get(ARCHIVE_ID)
            assert archive is None or isinstance(archive, Archive)
            return [(ARCHIVE_ID, extend(archive, stretch, by=by.actor))]

        await self._execute(ARCHIVE_ID, decide, by=by)
