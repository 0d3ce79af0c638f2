"""`scim-ledger token suspend` and `resume`: an end that can be taken back."""

from api.cli.console import AsJson, DataDir, OnBehalf, Reason, TokenId, operator, show, with_ledger
from api.cli.scim_tokens.token import fields_of
from domain.scim_token.values import check_reason


def suspend(
    token_id: TokenId,
    *,
    user: OnBehalf = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Let nobody in with a SCIM token, from now on and everywhere, until it is resumed."""
    check_reason(reason)
    by = operator(user)
    token = with_ledger(
        data_dir, lambda ledger: ledger.suspend_scim_token(token_id, by=by, reason=reason)
    )
    show(fields_of(token), as_json=as_json)


def resume(
    token_id: TokenId,
    *,
    user: OnBehalf = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take a suspension back."""
    check_reason(reason)
    by = operator(user)
    token = with_ledger(
        data_dir, lambda ledger: ledger.resume_scim_token(token_id, by=by, reason=reason)
    )
    show(fields_of(token), as_json=as_json)
