"""`scim-ledger token setup-link`, `show-setup-link` and `end-setup-link`: hand a token over to
whoever connects it.
"""

from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from api.cli.console import (
    AsJson,
    DataDir,
    OnBehalf,
    Reason,
    TokenId,
    ask_ledger,
    caught_up,
    operator,
    show,
    with_ledger,
)
from api.settings.checks import BASE_URL, is_base_url
from domain.errors import InvalidValue
from domain.ledger import TokenLedger
from domain.scim_token.values import check_reason
from projections.audit_trail.queries import AuditQueries
from projections.described import rfc3339_or_none
from projections.follow.ledger_head import LedgerHeadWatch

if TYPE_CHECKING:
    from api.resources.scim_token.setup_link_state import SetupLinkState

# The HTTP resource brings the framework along, without which every other command starts.


def setup_link(
    token_id: TokenId,
    *,
    base_url: Annotated[
        str, Parameter(help="Where the console is reached, such as https://ledger.example.com.")
    ],
    user: OnBehalf = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print a link that for 24 hours shows its holder a new secret of a SCIM token, once."""
    from api.resources.scim_token.setup_link import path_of  # noqa: PLC0415

    check_reason(reason)
    by = operator(user)
    if not is_base_url(base_url):
        raise InvalidValue("--base-url", BASE_URL)
    token, code = with_ledger(
        data_dir, lambda ledger: ledger.create_setup_link(token_id, by=by, reason=reason)
    )
    assert token.setup_link is not None
    link = {
        "id": token.setup_link.id,
        "url": base_url.rstrip("/") + path_of(token_id, code),
        "ends_at": rfc3339_or_none(token.setup_link.ends_at),
    }
    show(link, as_json=as_json)


def show_setup_link(
    token_id: TokenId, *, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """What became of the newest link that hands a SCIM token over: open, used, expired, ended."""
    from api.resources.scim_token.setup_link_state import link_of  # noqa: PLC0415

    async def ask(ledger: TokenLedger) -> "SetupLinkState":
        token = await ledger.scim_token(token_id)
        audit, heads = AuditQueries(ledger.reads), LedgerHeadWatch(ledger.reads)
        return await link_of(token, ledger, audit, heads, at=await ledger.time())

    with caught_up(data_dir) as settings:
        found = ask_ledger(settings, ask)
    show(msgspec.to_builtins(found), as_json=as_json)


def end_setup_link(
    token_id: TokenId,
    *,
    user: OnBehalf = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """End the link that hands a SCIM token over; what it has shown stays good."""
    check_reason(reason)
    by = operator(user)
    with_ledger(data_dir, lambda ledger: ledger.end_setup_link(token_id, by=by, reason=reason))
    show({"id": str(token_id)}, as_json=as_json)
