"""The ledger: every command, and replay of a stream.

Commands are decided and stored by the append gate (the handlers are in `command_handlers/`);
replay, the repository and the notification log are the library's, on our recorder. Time, ids and
randomness enter through the constructor.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from domain.command_handlers.api_tokens import ApiTokenCommands
from domain.command_handlers.leaks import LeakCommands
from domain.command_handlers.networks import NetworkCommands
from domain.command_handlers.operations import OperationCommands
from domain.command_handlers.policies import PolicyCommands
from domain.command_handlers.presentations import PresentationCommands
from domain.command_handlers.revocations import RevocationCommands
from domain.command_handlers.rotations import RotationCommands
from domain.command_handlers.scim_tokens import ScimTokenCommands
from domain.command_handlers.setup_links import SetupLinkCommands
from domain.commands import ClockAndIds
from domain.eventstore.append_faults import AppendProbe
from domain.eventstore.commit_turn import ALONE, CommitTurn
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.gate import AppendGate
from domain.eventstore.known_head.requirement import required_by
from domain.eventstore.ledger_clock import LedgerClock
from domain.eventstore.library.application import LedgerApplication
from domain.eventstore.lookups.api_tokens import ApiTokenLookup
from domain.eventstore.peppers.fingerprints import PepperRequirement
from domain.eventstore.peppers.newer_keys import NewerPeppers
from domain.eventstore.peppers.rekeyer import Rekeyer
from domain.instruments import LedgerInstruments
from domain.postgres.primary import Primary
from domain.postgres.read_pool import ReadPool
from domain.refusals.recent import RecentRefusals
from domain.secret import Pepper, SecretKind
from domain.setup_link import KEY_PURPOSE

SESSIONS_WITHIN_S: Final = 2.0
"""How long a ledger that is closed goes on with the ends of sessions."""


class TokenLedger(
    ScimTokenCommands,
    RotationCommands,
    SetupLinkCommands,
    NetworkCommands,
    RevocationCommands,
    PresentationCommands,
    LeakCommands,
    ApiTokenCommands,
    PolicyCommands,
    OperationCommands,
    LedgerApplication,
):
    """The ledger of SCIM tokens and of the API tokens that manage them.

    conninfo: libpq connection string of the app role. pepper: digests secrets. is_live: which
    kind new secrets are of. secret_prefix: the issuer's, that they begin with. revokes_leaked: a
    SCIM token whose leak is reported ends, instead of being marked. on_append: called after each
    commit that stored something.
    head_file: names an event that the ledger must have; None for none.
    commit_turn: see `AppendGate`. instruments: what counts here.
    Every command raises Unavailable within its deadline when the store is away.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        pepper: Pepper,
        clock_and_ids: ClockAndIds,
        is_live: bool = True,
        secret_prefix: str | None = None,
        revokes_leaked: bool = True,
        on_append: Callable[[], None] = lambda: None,
        commit_turn: CommitTurn = ALONE,
        instruments: LedgerInstruments | None = None,
        head_file: Path | None = None,
    ) -> None:
        super().__init__(conninfo)
        self.pepper = pepper
        self.clock_and_ids = clock_and_ids
        self._scim_kind = SecretKind.SCIM_LIVE if is_live else SecretKind.SCIM_TEST
        self._api_kind = SecretKind.API_LIVE if is_live else SecretKind.API_TEST
        self._secret_prefix = secret_prefix
        self._revokes_leaked = revokes_leaked
        self.clock = LedgerClock(clock_and_ids.clock)
        instruments = instruments or LedgerInstruments()
        self.known_head = required_by(head_file)
        primary = Primary(conninfo, requires=(PepperRequirement(pepper), *self.known_head))
        self.gate = AppendGate(
            primary,
            REGISTRY,
            clock=self.clock,
            new_id=clock_and_ids.new_id,
            on_append=on_append,
            commit_turn=commit_turn,
            instruments=instruments,
        )
        self.reads = ReadPool(conninfo, primary=primary, instruments=instruments.reads)
        self._newer_keys = NewerPeppers(self.reads, pepper)
        self._append_probe = AppendProbe(self.reads, self.gate.faults, self.gate.uses.connect)
        self._link_keys = pepper.derived(KEY_PURPOSE)
        self._rekeyer = Rekeyer(self.gate, self.reads, pepper, new_id=clock_and_ids.new_id)
        self.api_token_lookup = ApiTokenLookup(
            self.reads, self.clock, self._newer_keys, self._rekeyer
        )
        self._refusals = RecentRefusals()
        self._refused_calls = RecentRefusals()
        self._ending = set()

    async def aclose(self) -> None:
        """Answer what was accepted, then close every connection."""
        await self.sessions_ended(within_s=SESSIONS_WITHIN_S)
        await self._rekeyer.close()
        await self.gate.close()
        await self.reads.close()
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
