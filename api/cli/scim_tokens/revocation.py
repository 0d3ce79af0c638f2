"""`scim-ledger token revoke`: the end of SCIM tokens."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from cyclopts import Parameter

from api.cli.console import (
    AsJson,
    DataDir,
    Reason,
    TokenId,
    asked_at,
    operator,
    show,
    with_ledger,
)
from domain.scim_token.values import check_reason


def revoke(
    token_id: TokenId,
    *,
    user: Annotated[
        UUID | None, Parameter(help="The user on whose behalf; the trail names them.")
    ] = None,
    reason: Reason = None,
    if_unused_since: Annotated[
        datetime | None,
        Parameter(help="Only if it was not used at or after this instant, with a time zone."),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a SCIM token, from now on and everywhere."""
    check_reason(reason)
    by, unused_since = operator(user), asked_at("--if-unused-since", if_unused_since)
    with_ledger(
        data_dir,
        lambda ledger: ledger.revoke_scim_token(
            token_id, by=by, reason=reason, unused_since=unused_since
        ),
    )
    show({"id": str(token_id)}, as_json=as_json)
