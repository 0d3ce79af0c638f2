"""Since when each question waits to be answered whole: what a watcher sees of the walks."""

from collections.abc import Callable, Mapping
from datetime import datetime
from time import monotonic
from typing import Final

from domain.instruments import Gauge

FOLLOWS_AFTER_S: Final = 60.0
"""A process that has led nothing for so long leaves it to another. Before, it may be one that has
just started in the place of one that died, and will lead again.
"""


class Rounds:
    """Of one process; it tells nothing while another leads.

    since: a gauge for each question, in Unix seconds: when all that it finds was last told, or when
    this process began to lead. 0 while another does. They outlive a process that dies, so one that
    always dies on its way is seen, too.
    """

    def __init__(self, since: Mapping[str, Gauge], clock: Callable[[], datetime]) -> None:
        self._since = since
        self._clock = clock
        self._led_at = monotonic()
        self._untold: set[str] = set()

    def lead(self) -> None:
        """This process tells what is due."""
        self._led_at = monotonic()
        for gauge in self._since.values():
            if not gauge.value:
                self._begin(gauge)

    def follow(self) -> None:
        """This process does not."""
        if monotonic() - self._led_at > FOLLOWS_AFTER_S:
            for gauge in self._since.values():
                gauge.set(0)

    def asked(self, question: str, *, is_last: bool, is_told: bool) -> None:
        """A question was answered. is_last: as of `Found`. is_told: whether nothing of it failed.

        A walk of which a part failed is not whole when it comes round: the next one may be.
        """
        if not is_told:
            self._untold.add(question)
        if is_last:
            if question not in self._untold and question in self._since:
                self._begin(self._since[question])
            self._untold.discard(question)

    def _begin(self, gauge: Gauge) -> None:
        gauge.set(int(self._clock().timestamp()))
