"""`scim-ledger token networks`, `allow-networks` and `allow-any-network`: from where a SCIM token
is good.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

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
from domain.errors import InvalidValue
from domain.ledger import TokenLedger
from domain.networks.plain import is_outside
from domain.scim_token.networks.decide import NETWORKS_MAX, allow, kept_networks
from domain.scim_token.token import ScimToken
from domain.scim_token.values import check_reason
from projections.described import rfc3339
from projections.follow.ledger_head import LedgerHeadWatch
from projections.token_activity.queries import NEWEST_USES, ActivityQueries, Presenter

Outside = Sequence[Mapping[str, Any]]
"""Who presented a token in its newest uses and would not be let in from there."""


def networks(token_id: TokenId, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """From which networks a SCIM token is good, and who presented it of late from outside them."""

    async def ask(ledger: TokenLedger) -> tuple[Sequence[str], Outside]:
        token = await ledger.scim_token(token_id)
        return token.networks, await _outside(ledger, token, token.networks)

    with caught_up(data_dir) as settings:
        found = ask_ledger(settings, ask)
    _show_both(*found, as_json=as_json)


def allow_networks(
    token_id: TokenId,
    network: Annotated[
        list[str],
        Parameter(
            help=f"A network or an address, such as 192.0.2.0/24 or 2001:db8::1; "
            f"up to {NETWORKS_MAX}, which replace those before."
        ),
    ],
    *,
    dry_run: Annotated[
        bool,
        Parameter(help="Change nothing; say who presented it of late and would not be let in."),
    ] = False,
    user: OnBehalf = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Let a SCIM token in from these networks alone, from now on."""
    check_reason(reason)
    by, kept = operator(user), _kept(network)

    async def rehearse(ledger: TokenLedger) -> Outside:
        token = await ledger.scim_token(token_id)
        allow(token, kept, by=by.actor, reason=reason)
        return await _outside(ledger, token, kept)

    if dry_run:
        with caught_up(data_dir) as settings:
            outside = ask_ledger(settings, rehearse)
        _show_both(kept, outside, as_json=as_json)
        return
    token = with_ledger(
        data_dir, lambda ledger: ledger.allow_networks(token_id, kept, by=by, reason=reason)
    )
    show(_fields(token.networks, as_json=as_json), as_json=as_json)


def allow_any_network(
    token_id: TokenId,
    *,
    user: OnBehalf = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Let a SCIM token in from anywhere again."""
    check_reason(reason)
    by = operator(user)
    token = with_ledger(
        data_dir, lambda ledger: ledger.allow_any_network(token_id, by=by, reason=reason)
    )
    show(_fields(token.networks, as_json=as_json), as_json=as_json)


def _kept(networks: Sequence[str]) -> Sequence[str]:
    """The networks as they are kept. Raises InvalidValue, by the name of the argument."""
    try:
        return kept_networks(networks)
    except InvalidValue as error:
        place = error.pointer.removeprefix("/networks").removeprefix("/")
        which = f"number {int(place) + 1} " if place else ""
        raise InvalidValue("NETWORK", which + error.detail) from None


async def _outside(ledger: TokenLedger, token: ScimToken, networks: Sequence[str]) -> Outside:
    """Who of all that presented a token in its newest uses did so from outside these networks."""
    if not networks:
        return []
    found = await ActivityQueries(ledger.reads).of_token(
        token.id,
        days=1,
        to_at=await ledger.time(),
        ledger_head=await LedgerHeadWatch(ledger.reads).now(),
        presenters=NEWEST_USES,
    )
    return [_told(each) for each in found.presenters if is_outside(each.source, networks)]


def _told(presenter: Presenter) -> Mapping[str, Any]:
    return {
        "source": presenter.source,
        "uses": presenter.uses,
        "last_used_at": rfc3339(presenter.last_used_at),
        "door": presenter.door,
        "user_agent": presenter.user_agent,
    }


def _fields(networks: Sequence[str], *, as_json: bool) -> Mapping[str, Any]:
    """As over HTTP; for people, a restriction that there is not has a word."""
    return {"networks": networks if networks or as_json else "any"}


def _show_both(networks: Sequence[str], outside: Outside, *, as_json: bool) -> None:
    """Where a token is good, and who is outside; for people, a table comes before."""
    fields = _fields(networks, as_json=as_json)
    if as_json:
        show({**fields, "outside": outside}, as_json=True)
    else:
        show(outside, as_json=False)
        show({**fields, "outside": len(outside)}, as_json=False)
