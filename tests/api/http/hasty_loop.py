"""An event loop whose clock goes on by itself, for what depends on time."""

import asyncio
import selectors
from typing import Any


class HastyLoop(asyncio.SelectorEventLoop):
    """Does not wait: where nothing is to be done, its clock goes on to what is due next."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(HastySelector(self))

    def time(self) -> float:
        return self.now_s


class HastySelector(selectors.DefaultSelector):
    def __init__(self, loop: HastyLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing would ever happen"
            self._loop.now_s += max(timeout, 0)
        return ready
