"""The load generator: `wrk` as a child process, one thread,
to leave the cores to what is measured.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

INSTALL: Final = "wrk is missing; install it: apt-get update && apt-get install -y wrk"
_SCRIPT: Final = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, slots=True)
class Slice:
    """What one slice of load saw.

    rate: answers per second. p50_ms, p99_ms: latency. refused: answers of 400 and above.
    lost: requests that got no answer (connection errors, and time-outs after 10 s).
    """

    rate: float
    p50_ms: float
    p99_ms: float
    answers: int
    refused: int
    lost: int


def is_installed() -> bool:
    """Whether there is a `wrk` to run."""
    return shutil.which("wrk") is not None


def load(
    url: str, requests: Path, *, connections: int = 32, seconds: int = 3, body: Path | None = None
) -> Slice:
    """Send the requests of a file (see load.lua) in turn over keep-alive connections."""
    command: list[str | Path] = [
        "wrk",
        "--threads",
        "1",
        "--duration",
        f"{seconds}s",
        "--timeout",
        "10s",
    ]
    command += [
        "--connections",
        str(connections),
        "--latency",
        "--script",
        _SCRIPT,
        url,
        "--",
        requests,
    ]
    command += [] if body is None else [body]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    assert found, run.stdout + run.stderr
    answers, seconds_taken, refused, lost, p50_ms, p99_ms = found[0].split()[1:]
    return Slice(
        rate=int(answers) / float(seconds_taken),
        p50_ms=float(p50_ms),
        p99_ms=float(p99_ms),
        answers=int(answers),
        refused=int(refused),
        lost=int(lost),
    )
