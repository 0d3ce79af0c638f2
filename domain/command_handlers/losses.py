"""The declaration of what the ledger has lost."""

from datetime import datetime

from domain.authority import Operator
from domain.command_handlers.execution import Execution
from domain.event import Changes, States
from domain.losses.declared import LOSSES_ID, Loss, declare


class LossCommands(Execution):
    """What `TokenLedger` does about what it has lost."""

    async def declare_loss(self, loss: Loss, *, by: Operator, reason: str) -> None:
        """Write down what is lost, on the word of whoever runs the service and nobody else.

        The ledger must have been opened without a head file. Raises InvalidValue.
        """

        def decide(_: States, __: datetime) -> Changes:
            return [(LOSSES_ID, declare(loss, by=by.actor, reason=reason))]

        await self._execute(LOSSES_ID, decide, by=by)
