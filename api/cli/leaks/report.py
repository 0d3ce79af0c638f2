"""`scim-ledger token report-leak`: secrets in any text, and the end of their tokens."""

from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Annotated

from cyclopts import Parameter

from api.cli.console import AsJson, DataDir, OnBehalf, operator, with_ledger
from api.cli.leaks.find import print_found, standard_input
from domain.authority import Operator
from domain.leaks.finder import Found, find_secrets
from domain.leaks.report import REPORTS_MAX, LeakReport
from domain.ledger import TokenLedger
from domain.scim_token.leak import Leak, leak


def report_leak(
    *,
    url: Annotated[str | None, Parameter(help="Where they were found, for the trail.")] = None,
    source: Annotated[
        str | None, Parameter(help="What was searched, or who searched, for the trail.")
    ] = None,
    user: OnBehalf = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Find secrets in standard input, and end or mark their tokens, as ON_LEAK says."""
    found = find_secrets(standard_input())
    with_ledger(data_dir, _reporting(found, leak(url, source), by=operator(user), as_json=as_json))


def _reporting(
    found: Iterator[Found], where: Leak, *, by: Operator, as_json: bool
) -> Callable[[TokenLedger], Awaitable[None]]:
    async def report(ledger: TokenLedger) -> None:
        while batch := list(islice(found, REPORTS_MAX)):
            reports = [LeakReport(each.secret, where) for each in batch]
            answers = await ledger.report_leaks(reports, by=by, teams=None)
            for each, answer in zip(batch, answers, strict=True):
                what = (
                    {"state": "unknown", "action": "none"}
                    if answer is None
                    else {
                        "state": answer.state,
                        "action": answer.action,
                        "token_id": str(answer.token_id),
                    }
                )
                print_found(each, what, as_json=as_json)

    return report
