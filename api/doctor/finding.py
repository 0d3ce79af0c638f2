"""One finding of the doctor, and how it is printed."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec


class Status(StrEnum):
    """OK: as it should be.

    WARN: it works, and could be better. FAIL: it does not work, or not for long.
    """

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at.

    found: how it is, without a secret. remedy: what to do, None when it is good.
    """

    what: str
    status: Status
    found: str
    remedy: str | None = None


def ok(what: str, found: str) -> Finding:
    """As it should be."""
    return Finding(what, Status.OK, found)


def warn(what: str, found: str, remedy: str) -> Finding:
    """It works, and something would be better."""
    return Finding(what, Status.WARN, found, remedy)


def fail(what: str, found: str, remedy: str) -> Finding:
    """It does not work, or not for long."""
    return Finding(what, Status.FAIL, found, remedy)


def parts(sentence: str) -> tuple[str, str]:
    """What was found, and what to do: a refusal of ours says both, with a colon between."""
    found, _, remedy = sentence.partition(": ")
    return found, remedy


_WIDTH: Final = 22


def lines(findings: Sequence[Finding]) -> list[str]:
    """For a terminal: one line a finding, what to do below it, and the sum."""
    told = []
    for finding in findings:
        told.append(f"{finding.status:<5} {finding.what:<{_WIDTH}} {finding.found}")
        if finding.remedy is not None:
            told.append(f"{'':<6}{'':<{_WIDTH}} -> {finding.remedy}")
    counts = {status: sum(finding.status is status for finding in findings) for status in Status}
    told.append(", ".join(f"{count} {status}" for status, count in counts.items()))
    return told
