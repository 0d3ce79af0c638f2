"""`scim-ledger token change`: its name and its end."""

from datetime import datetime
from typing import Annotated

from cyclopts import Parameter
from msgspec import UNSET

from api.cli.console import (
    AsJson,
    DataDir,
    OnBehalf,
    Reason,
    TokenId,
    aware,
    operator,
    show,
    with_ledger,
)
from api.cli.scim_tokens.token import fields_of
from domain.commands import ScimTokenChange
from domain.errors import InvalidValue
from domain.scim_token.values import NAME_MAX_LENGTH, check_name, check_reason


def change(
    token_id: TokenId,
    *,
    name: Annotated[
        str | None, Parameter(help=f"What it is for, 1 to {NAME_MAX_LENGTH} characters.")
    ] = None,
    expires_at: Annotated[datetime | None, Parameter(help="Its new end, with a time zone.")] = None,
    never_expires: Annotated[bool, Parameter(help="Good until it is revoked.")] = False,
    user: OnBehalf = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give a SCIM token another name, another end or none; what is not named stays as it is."""
    if never_expires and expires_at is not None:
        raise InvalidValue("--never-expires", "cannot go with --expires-at")
    if name is not None:
        check_name(name)
    check_reason(reason)
    end = aware("--expires-at", expires_at)
    ask = ScimTokenChange(
        name=UNSET if name is None else name,
        expires_at=UNSET if end is None and not never_expires else end,
        reason=reason,
    )
    by = operator(user)
    token = with_ledger(data_dir, lambda ledger: ledger.change_scim_token(token_id, ask, by=by))
    show(fields_of(token), as_json=as_json)
