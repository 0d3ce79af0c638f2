"""How long things take on a machine that shares its processors with other guests of a host."""

import os
from pathlib import Path
from time import monotonic
from typing import Final

_STAT: Final = Path("/proc/stat")
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")


class Stopwatch:
    """Runs from when it is made, and stands still while the host gives the processors to others.

    A promise of half a second is not broken by a host that takes a processor away for two. What is
    taken from several processors at once is added up: a chain of processes waits for each of them.
    """

    def __init__(self) -> None:
        self._began = monotonic()
        self._stolen_before = stolen_s()

    def read_s(self) -> float:
        """Seconds."""
        return monotonic() - self._began - (stolen_s() - self._stolen_before)


def stolen_s() -> float:
    """What the host gave of the processors to others since the machine started;
    0 where it does not tell.
    """
    return processor_time()[1] / _TICKS_A_SECOND if _STAT.exists() else 0.0


def processor_time() -> tuple[int, int]:
    """All of it and what was stolen, in ticks since the machine started (proc_stat(5))."""
    ticks = _ticks()
    return sum(ticks), ticks[7]


def busy_s() -> float:
    """What the processors worked for us since the machine started:
    neither idle, nor waiting, nor stolen.
    """
    user, nice, system, _idle, _waiting, of_devices, soft, _stolen = _ticks()
    return (user + nice + system + of_devices + soft) / _TICKS_A_SECOND


def _ticks() -> list[int]:
    return [int(field) for field in _STAT.read_text().splitlines()[0].split()[1:9]]
