"""`scim-ledger token rotate` and what goes with it: the secrets of SCIM tokens."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Final

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
from api.cli.scim_tokens.token import fields_of
from domain.errors import InvalidValue
from domain.ledger import TokenLedger
from domain.scim_token.rotation import DEFAULT_OVERLAP, OVERLAP_MAX
from domain.scim_token.values import check_reason
from projections.follow.ledger_head import LedgerHeadWatch
from projections.scim_tokens.secrets import SecretQueries, TokenSecret

OVERLAP_MAX_S: Final = OVERLAP_MAX // timedelta(seconds=1)


def rotate(
    token_id: TokenId,
    *,
    overlap_seconds: Annotated[
        int, Parameter(help=f"How long the older secret goes on, 0 to {OVERLAP_MAX_S} seconds.")
    ] = DEFAULT_OVERLAP // timedelta(seconds=1),
    user: OnBehalf = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give a SCIM token a new secret, which is printed once; the older one goes on for a while."""
    check_reason(reason)
    if not 0 <= overlap_seconds <= OVERLAP_MAX_S:
        raise InvalidValue("--overlap-seconds", f"must be 0 to {OVERLAP_MAX_S}")
    overlap, by = timedelta(seconds=overlap_seconds), operator(user)
    token, secret = with_ledger(
        data_dir,
        lambda ledger: ledger.rotate_scim_token(token_id, overlap=overlap, by=by, reason=reason),
    )
    show({**fields_of(token), "token": secret.reveal()}, as_json=as_json)


def complete_rotation(
    token_id: TokenId,
    *,
    user: OnBehalf = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """End the older secret of a rotation now: the newer one is where it belongs."""
    check_reason(reason)
    by = operator(user)
    token = with_ledger(
        data_dir, lambda ledger: ledger.complete_rotation(token_id, by=by, reason=reason)
    )
    show(fields_of(token), as_json=as_json)


def cancel_rotation(
    token_id: TokenId,
    *,
    user: OnBehalf = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """End the newer secret of a rotation now: the older one goes on as before."""
    check_reason(reason)
    by = operator(user)
    token = with_ledger(
        data_dir, lambda ledger: ledger.cancel_rotation(token_id, by=by, reason=reason)
    )
    show(fields_of(token), as_json=as_json)


def secrets(token_id: TokenId, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Which secrets a SCIM token has or had, by their ids, and when each was used."""

    async def ask(ledger: TokenLedger) -> Sequence[TokenSecret]:
        ledger_head = await LedgerHeadWatch(ledger.reads).now()
        return await SecretQueries(ledger.reads).of_token(
            token_id, teams=None, ledger_head=ledger_head
        )

    with caught_up(data_dir) as settings:
        found = ask_ledger(settings, ask)
    show([msgspec.structs.asdict(each) for each in found], as_json=as_json)
