"""What a SCIM token's owner changes about it: its name, its end, whether it is suspended. Pure.

A suspension is an end that can be taken back: meanwhile the token can be changed, rotated and
revoked as ever.
"""

from datetime import datetime

from msgspec import UNSET, UnsetType

from domain.errors import InvalidValue, NotFound
from domain.event import Actor
from domain.scim_token.events import Changed, Resumed, ScimTokenEvent, Suspended
from domain.scim_token.token import ScimToken
from domain.scim_token.values import check_name, check_reason, kept_expiry, require_meant


def change(
    token: ScimToken,
    *,
    name: str | UnsetType = UNSET,
    expires_at: datetime | UnsetType | None = UNSET,
    by: Actor,
    reason: str | None,
    at: datetime,
) -> list[Changed]:
    """Give a token another name, another end or none; silent where it is so already.

    expires_at: None takes the end away. Whether the policy allows an end is asked beside this.
    Raises NotFound once revoked, InvalidValue on what `ScimToken.create` refuses and where the
    token has expired: a change never brings a secret back.
    """
    _require(token, reason)
    if token.expires_at is not None and token.expires_at <= at:
        raise InvalidValue("", "the token has expired; create another")
    if isinstance(name, str):
        check_name(name)
    if isinstance(expires_at, datetime):
        expires_at = kept_expiry(expires_at, after=at)
    event = Changed(
        changed_by=by,
        name=UNSET if name == token.name else name,
        expires_at=UNSET if expires_at == token.expires_at else expires_at,
        reason=reason,
    )
    return [] if event.name is UNSET and event.expires_at is UNSET else [event]


def suspend(token: ScimToken, *, by: Actor, reason: str | None) -> list[ScimTokenEvent]:
    """Let nobody in with the token from now on; silent where it is suspended.

    Raises NotFound once revoked, InvalidValue on a reason that `check_reason` refuses.
    """
    _require(token, reason)
    return [] if token.suspended_at is not None else [Suspended(suspended_by=by, reason=reason)]


def resume(
    token: ScimToken, *, by: Actor, reason: str | None, meant: datetime | None = None
) -> list[ScimTokenEvent]:
    """Let in again whoever could be let in before; silent where it is not suspended.

    meant: when the suspension began that is to be taken back, None for whichever it is. Raises what
    `suspend` raises, and InvalidValue where it is another one by now.
    """
    _require(token, reason)
    if token.suspended_at is None:
        return []
    require_meant("suspension is in force", meant in {token.suspended_at, None})
    return [Resumed(resumed_by=by, reason=reason)]


def _require(token: ScimToken, reason: str | None) -> None:
    check_reason(reason)
    if token.revoked_at is not None:
        raise NotFound("no such token")
