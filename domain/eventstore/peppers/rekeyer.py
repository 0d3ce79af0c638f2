"""Digest secrets anew that were presented under an older key of the pepper.

The door has answered by then, and each secret that it let in waits here for its turn: some at a
time, so that the doors keep their rate while the first day after a rotation brings every secret
once. Whatever is lost with the process, or refused by a store that is away, is found again by the
next use.

A process that lacks the newest key does not know a secret that was digested under it. So none is
for an hour after a key was added, in which the processes of before are replaced, nor after a
migration, in which they are, too.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

import structlog

from domain.api_token import rekeying as rekeying_of_api_token
from domain.api_token.token import ApiToken
from domain.errors import LedgerError, Unavailable
from domain.event import Changes, Event, States
from domain.eventstore.command_batch import Command
from domain.eventstore.gate import AppendGate
from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements
from domain.scim_token import rekeying as rekeying_of_scim_token
from domain.scim_token.token import ScimToken
from domain.secret import Digest, Pepper

GRACE: Final = timedelta(hours=1)
"""How long a deployment takes to restart all its processes, generously."""
EVERY_S: Final = 0.5
BATCH: Final = 50
"""Secrets at a time: one transaction, which holds the append lock for some milliseconds."""
WAITING_MAX: Final = 5_000
REST_S: Final = 60.0
"""How long a process that may not yet, or could not, looks at nothing."""

logger = structlog.get_logger()

_COMMANDS: Final = UUID("0d2a3a0c-59c5-4e1c-8f0f-9b3a5a3c6f6e")
"""The namespace of their command ids."""
_SQL: Final = statements("domain.eventstore.peppers", "sql/peppers.sql")


class Rekeyer:
    """Those of one process, a batch every half second while any wait.

    new_id: a fresh UUID, for the attempt.
    """

    def __init__(
        self, gate: AppendGate, reads: ReadPool, pepper: Pepper, *, new_id: Callable[[], UUID]
    ) -> None:
        self._gate = gate
        self._reads = reads
        self._generation = pepper.generation
        self._new_id = new_id
        self._waiting: dict[bytes, tuple[UUID, bytes]] = {}
        self._rests_until = 0.0
        self._run: asyncio.Task[None] | None = None

    def note(self, token_id: UUID, candidates: Sequence[bytes], stored: bytes) -> None:
        """A secret was let in as `stored`, one of its candidates but the newest."""
        if len(self._waiting) >= WAITING_MAX:
            return
        if self._run is None:
            loop = asyncio.get_running_loop()
            if loop.time() < self._rests_until:
                return
            self._run = loop.create_task(self._work_off())
        self._waiting[stored] = token_id, candidates[0]

    async def close(self) -> None:
        """Forget those who wait."""
        if self._run is not None:
            self._run.cancel()
            await asyncio.wait([self._run])

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(EVERY_S)
                if not await self._may():
                    return self._rest()
                batch = [self._waiting.popitem() for _ in range(min(BATCH, len(self._waiting)))]
                await asyncio.gather(*(self._rekey(stored, *to) for stored, to in batch))
        except Unavailable:
            self._rest()
        except Exception as error:  # noqa: BLE001 - no secret is worse off; the class says enough
            self._rest()
            logger.error("pepper.not_rekeyed", error=type(error).__qualname__)  # noqa: TRY400
        finally:
            self._run = None

    def _rest(self) -> None:
        self._waiting.clear()
        self._rests_until = asyncio.get_running_loop().time() + REST_S

    async def _may(self) -> bool:
        ((may,),) = await self._reads.fetch(_SQL["may_rekey"], [self._generation, GRACE, GRACE])
        return bool(may)

    async def _rekey(self, stored: bytes, token_id: UUID, newest: bytes) -> None:
        anew = Digest(newest, self._generation)

        def decide(states: States, at: datetime) -> Changes:
            return [(token_id, _rekeyed(states, token_id, stored, anew=anew, at=at))]

        await self._gate.execute(
            Command(
                id=uuid5(_COMMANDS, f"{token_id}/{newest.hex()}"),
                attempt=self._new_id(),
                originator_id=token_id,
                reads=frozenset({token_id}),
                request=b"",
                decide=decide,
            )
        )


def _rekeyed(
    states: States, token_id: UUID, stored: bytes, *, anew: Digest, at: datetime
) -> Sequence[Event]:
    token = states.get(token_id)
    if isinstance(token, ScimToken):
        return rekeying_of_scim_token.rekey(token, stored, anew=anew, at=at)
    if isinstance(token, ApiToken):
        return rekeying_of_api_token.rekey(token, stored, anew=anew, at=at)
    raise LedgerError("a secret that was let in has no token")
