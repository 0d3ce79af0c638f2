"""A session of the console: an API token that another one signed in for, until it ends. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from domain.api_token.events import ApiTokenEvent, Created
from domain.api_token.token import ApiToken
from domain.errors import NotFound, Unauthenticated
from domain.event import Actor
from domain.secret import Digest

LIFETIME: Final = timedelta(hours=8)
"""A working day: who comes back tomorrow signs in again."""
ENDED_WITH: Final = "the API token that signed in was revoked"
SIGNED_OUT: Final = "signed out"


def open_session(
    token: ApiToken, *, digest: Digest, presented: Sequence[bytes] | None, by: Actor, at: datetime
) -> list[ApiTokenEvent]:
    """An API token with the rights of `token`, for `LIFETIME` and no longer than that one.

    It needs no permission, since it grants nothing that its holder does not have. presented: the
    digests of the secret that signs in; by: who does. Raises Unauthenticated where token or secret
    is over, and for a session: one after the other would never end.
    """
    if token.session_of is not None or not token.is_good(at=at, digests=presented):
        raise Unauthenticated("the API token is not valid")
    ends_at = at + LIFETIME
    return [
        Created(
            user_id=token.user_id,
            teams=token.teams,
            permissions=token.permissions,
            digest=digest,
            created_by=by,
            expires_at=ends_at if token.expires_at is None else min(ends_at, token.expires_at),
            session_of=token.id,
        )
    ]


def close_session(token: ApiToken, *, by: Actor) -> list[ApiTokenEvent]:
    """End a session, on its own word. Raises NotFound for what is none."""
    if token.session_of is None:
        raise NotFound("no such session")
    return token.revoke(by=by, reason=SIGNED_OUT)
