"""Deadlines long enough for a busy machine, for tests that are not about deadlines."""

from typing import Any, Final

import pytest

from domain.eventstore.gate import AppendGate
from domain.eventstore.uses import UseLane
from domain.ledger import TokenLedger
from domain.postgres.connection import connect
from domain.postgres.read_pool import ReadPool

PATIENCE_S: Final = 10.0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second is the promise to an IdP, not to a test beside seven others on two cores."""
    monkeypatch.setattr("domain.command_handlers.presentations.USE_TIMEOUT_S", PATIENCE_S)
    waits: tuple[Any, ...] = (
        *(UseLane.present, AppendGate.execute, TokenLedger._execute),
        *(connect, ReadPool.__init__),
    )
    for wait in waits:
        monkeypatch.setitem(wait.__kwdefaults__, "timeout_s", PATIENCE_S)
