"""Make random ids from random bytes that are read in blocks, without a system call for each."""

import os
from collections.abc import Callable
from itertools import count
from typing import Final
from uuid import UUID, uuid4

_BLOCK: Final = 256
_VERSION_4: Final = 4 << 76
_VARIANT: Final = 2 << 62
_RANDOM_BITS: Final = ~((0xF << 76) | (3 << 62))


class RandomIds:
    """Version 4 UUIDs (RFC 9562 §5.4), their random bits taken from the system in blocks."""

    def __init__(self) -> None:
        self._ready: list[int] = []

    def __call__(self) -> UUID:
        """One that was never given before."""
        if not self._ready:
            block = os.urandom(16 * _BLOCK)
            self._ready = [
                int.from_bytes(block[start : start + 16], "big") & _RANDOM_BITS
                | _VERSION_4
                | _VARIANT
                for start in range(0, len(block), 16)
            ]
        return UUID(int=self._ready.pop())


def request_ids() -> Callable[[], str]:
    """Ids for requests: unique, formed like a UUID, not secret.

    A random prefix per process, then a count.
    """
    prefix = str(uuid4())[:24]
    numbers = count(int.from_bytes(os.urandom(5), "big"))
    return lambda: f"{prefix}{next(numbers):012x}"
