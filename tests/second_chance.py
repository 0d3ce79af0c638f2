"""A test that failed while the host gave the processors to others is run again, once,
and the run says so.

Half a second is a promise of ours, and some tests hold it against the real service. A host that
takes a processor away for as long breaks it, as it would break anybody's. What fails twice, or
without that, failed.
"""

from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol
from _pytest.terminal import TerminalReporter

from tests.stopwatch import stolen_s

STOLEN_MAX_S: Final = 0.2
"""What no deadline of ours is broken by."""

NEVER_EXCUSED: Final = frozenset({"linearizability", "stateful"})
"""Whose tests hold no time limit against the service:
a contradicted history or model is our fault.
"""

_OUTCOME: Final = "run again"


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Pytest's hook: run one test and report on it."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    before_s = stolen_s()
    reports: list[Any] = runtestprotocol(item, nextitem=nextitem, log=False)
    failed = [report for report in reports if report.failed]
    if (
        failed
        and not is_never_excused(item)
        and isinstance(item, pytest.Function)
        and stolen_s() - before_s > STOLEN_MAX_S
    ):
        for report in failed:
            report.outcome = _OUTCOME
            item.ihook.pytest_runtest_logreport(report=report)
        item._initrequest()  # fixtures anew, as pytest-rerunfailures does it
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def is_never_excused(item: pytest.Item) -> bool:
    """Whether what the test proves can be broken by nobody but us."""
    return bool(NEVER_EXCUSED.intersection(item.path.parts))


def pytest_report_teststatus(report: Any) -> tuple[str, str, str] | None:
    """Pytest's hook: category, letter and word for an outcome."""
    return (_OUTCOME, "R", "RUN AGAIN") if report.outcome == _OUTCOME else None


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Pytest's hook: the end of a run."""
    for report in terminalreporter.stats.get(_OUTCOME, []):
        terminalreporter.write_line(f"RUN AGAIN {report.nodeid}: the host took the processors away")
        terminalreporter.write_line(str(report.longreprtext))
