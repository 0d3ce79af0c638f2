"""Rate limits: one bucket per presented secret and one per source, in the memory of one process.

A process knows only its own requests: with N workers and replicas a client may get N times the
rate. The limits are there so that one client cannot take the service away from the others; they are
no quota.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from math import ceil
from typing import Final

from api.doors.client_address import site_of
from api.errors import TooManyRequests
from domain.secret import Secret

MAX_KEYS: Final = 100_000
BURST: Final = 2
"""Seconds' worth of requests that may come at once."""
_ROUNDING_S: Final = 1e-6


class Buckets:
    """Token buckets by key, as one number each: when the bucket will be full again (GCRA).

    rate: requests a second, at least 1, or 0 for no limit. max_keys: beyond it the bucket that was
    not asked for the longest time is forgotten, that is, full again. clock: seconds, monotonic.
    """

    def __init__(
        self, rate: float, *, max_keys: int = MAX_KEYS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = 1 / rate if rate else 0.0
        self._leeway_s = BURST - self._interval_s + _ROUNDING_S
        self._max_keys = max_keys
        self._clock = clock
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: Hashable) -> None:
        """Take one request out of the bucket of `key`.

        Raises TooManyRequests, then nothing is taken.
        """
        if not self._interval_s:
            return
        now, full_at = self._clock(), self._full_at
        known = full_at.get(key)
        if known is None:
            if len(full_at) >= self._max_keys:
                full_at.popitem(last=False)
            full_at[key] = now + self._interval_s
            return
        full_at.move_to_end(key)
        missing_s = max(known - now, 0.0)
        if missing_s > self._leeway_s:
            raise TooManyRequests(max(1, ceil(missing_s - self._leeway_s)))
        full_at[key] = now + missing_s + self._interval_s


class RateLimits:
    """The limits of the doors. per_token, per_source: requests a second, 0 for none."""

    def __init__(self, *, per_token: float = 0, per_source: float = 0) -> None:
        self._tokens = Buckets(per_token)
        self._sources = Buckets(per_source)

    def take_source(self, address: str | None) -> None:
        """Count a request of a source. Raises TooManyRequests."""
        if address is not None:
            self._sources.take(site_of(address))

    def take_token(self, secret: Secret) -> None:
        """Count a presentation of a secret. Raises TooManyRequests."""
        # The interpreter's keyed hash, made anew for each process: no secret stays in memory for
        # this.
        self._tokens.take(hash(secret.reveal()))
