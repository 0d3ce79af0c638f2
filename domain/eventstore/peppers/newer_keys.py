"""Tell whether an unknown secret may be stored under a pepper key that this process lacks.

While a rolling restart adds a key, the processes of before do not know secrets that the new ones
make. To say "unknown" of one would be a 401 for a good token, or a burn that burns nothing.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from domain.errors import PepperMismatch
from domain.eventstore.batcher import Batcher, Job
from domain.postgres.read_pool import ReadPool
from domain.postgres.sql_file import statements
from domain.secret import Pepper

GOOD_FOR_S: Final = 1.0
"""How long "no newer key" is remembered:
a process that adds one takes longer to begin to answer.
"""

_SQL: Final = statements("domain.eventstore.peppers", "sql/peppers.sql")


class NewerPeppers:
    """Asks the ledger at most once a second, and only when a secret is unknown."""

    def __init__(self, pool: ReadPool, pepper: Pepper) -> None:
        self._pool = pool
        self._generation = pepper.generation
        self._none_until = 0.0
        self._looks: Batcher[None, bool] = Batcher(self._look)

    async def require_none(self, *, timeout_s: float = 1.5) -> None:
        """Raise PepperMismatch where the ledger has a key that this process lacks;
        StoreUnavailable.
        """
        if asyncio.get_running_loop().time() < self._none_until:
            return
        if await self._looks.submit(None, timeout_s=timeout_s):
            raise PepperMismatch(
                "a key was added to the pepper since this process began: restart it with all"
            )

    async def _look(self, jobs: Sequence[Job[None, bool]]) -> None:
        ((newest,),) = await self._pool.fetch(_SQL["newest_generation"])
        has_newer = newest > self._generation
        if not has_newer:
            self._none_until = asyncio.get_running_loop().time() + GOOD_FOR_S
        for job in jobs:
            job.resolve(has_newer)
