"""A session of the console: an API token that another one signed in for, until it ends. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from domain.api_token.events import ApiTokenEvent, Created
from domain.api_token.token import ApiToken
from domain.errors import NotFound, Unauthenticated
from domain.event import Actor, Aggregate, States
from domain.secret import Digest, SecretId

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
            session_secret=_presented(token, presented),
        )
    ]


def as_it_stands(token: ApiToken, first: Aggregate | None) -> ApiToken:
    """A session with the end that its API token puts to it, whether that is on record of the
    session or not: it is revoked with that one, and ends with the secret that signed in.

    first: the API token that signed in. What is no session stands as it is.
    """
    if token.session_of is None or not isinstance(first, ApiToken):
        return token
    ends = [end for end in (token.expires_at, _end_of_secret(token, first)) if end is not None]
    return replace(
        token, expires_at=min(ends, default=None), revoked_at=token.revoked_at or first.revoked_at
    )


def as_it_stands_in(states: States, token: ApiToken) -> ApiToken:
    """A session as it stands with the API token that signed in, where that is among the states."""
    return as_it_stands(token, None if token.session_of is None else states.get(token.session_of))


def _presented(token: ApiToken, digests: Sequence[bytes] | None) -> SecretId:
    """Which secret of the token has one of these digests; its newest where none is said."""
    newest = token.held[-1][1]
    return next((name for held, name in token.held if held.value in (digests or ())), newest)


def _end_of_secret(session: ApiToken, first: ApiToken) -> datetime | None:
    """The first instant at which the secret that signed in is refused; None while it is the newest.

    A session of an early release does not say which it was: it ends with the first that ends of
    those that were good then, or with a rotation since, which may have let go of one of them.
    """
    if first.rotated_at is None:
        return None
    ends = {name: old.good_until for (_, name), old in zip(first.held, first.older, strict=False)}
    if session.session_secret is not None:
        is_newest = session.session_secret == first.held[-1][1]
        # What is held no more had ended when the last rotation let go of it.
        return ends.get(session.session_secret, None if is_newest else first.rotated_at)
    if session.created_at <= first.rotated_at:
        return first.rotated_at
    return min((end for end in ends.values() if session.created_at < end), default=None)


def close_session(token: ApiToken, *, by: Actor) -> list[ApiTokenEvent]:
    """End a session, on its own word. Raises NotFound for what is none."""
    if token.session_of is None:
        raise NotFound("no such session")
    return token.revoke(by=by, reason=SIGNED_OUT)
