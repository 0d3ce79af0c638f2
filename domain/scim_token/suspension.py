"""Suspend a SCIM token and resume it: an end that can be taken back. Pure.

While it is suspended a token can be changed, rotated and revoked as ever.
"""

from domain.errors import NotFound
from domain.event import Actor
from domain.scim_token.events import Resumed, ScimTokenEvent, Suspended
from domain.scim_token.token import ScimToken
from domain.scim_token.values import check_reason


def suspend(token: ScimToken, *, by: Actor, reason: str | None) -> list[ScimTokenEvent]:
    """Let nobody in with the token from now on; silent where it is suspended.

    Raises NotFound once revoked, InvalidValue on a reason that `check_text` refuses.
    """
    _require(token, reason)
    return [] if token.suspended_at is not None else [Suspended(suspended_by=by, reason=reason)]


def resume(token: ScimToken, *, by: Actor, reason: str | None) -> list[ScimTokenEvent]:
    """Let in again whoever could be let in before; silent where it is not suspended.

    Raises what `suspend` raises.
    """
    _require(token, reason)
    return [] if token.suspended_at is None else [Resumed(resumed_by=by, reason=reason)]


def _require(token: ScimToken, reason: str | None) -> None:
    check_reason(reason)
    if token.revoked_at is not None:
        raise NotFound("no such token")
