"""Who holds a secret, how the secret stands, and what follows from its leak. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from domain.api_token.token import ApiToken
from domain.event import Actor, Event
from domain.scim_token.events import Leaked
from domain.scim_token.leak import PLACES_MAX, Leak
from domain.scim_token.token import ScimToken
from domain.secret import SecretId, secret_id

Token: TypeAlias = ScimToken | ApiToken
REASON: Final = "leaked"
"""Of the revocation that follows."""
_OPEN: Final = frozenset({"live", "suspended"})
"""States in which a leak matters: what is over stays so."""


class Holder(msgspec.Struct, frozen=True):
    """A token that has a secret, or had it before a rotation.

    candidates: the digests under which the secret may be stored; first the one that is.
    """

    token: Token
    candidates: Sequence[bytes]

    @property
    def digest(self) -> bytes:
        """The one under which the token has it."""
        if isinstance(self.token, ScimToken):
            return self.token.held_as(self.candidates)
        return self.candidates[0]

    @property
    def secret_id(self) -> SecretId:
        """What may be shown of the secret."""
        if isinstance(self.token, ScimToken):
            return self.token.secret_id(self.digest)
        names = (name for held, name in self.token.held if held.value in self.candidates)
        return next(names, secret_id(self.digest))

    def state(self, *, at: datetime) -> str:
        """How the secret stands: "live", or why it would be refused, such as "revoked"."""
        if isinstance(self.token, ScimToken):
            refusal = self.token.refusal(self.digest, at=at)
            return "live" if refusal is None else refusal.reason
        if self.token.is_good(at=at, digests=self.candidates):
            return "live"
        return "expired" if self.token.revoked_at is None else "revoked"

    def is_visible(self, teams: Sequence[UUID] | None) -> bool:
        """Whether a caller who may touch these teams, None for all, may know of the token."""
        return teams is None or (isinstance(self.token, ScimToken) and self.token.team_id in teams)

    def report(self, leak: Leak, *, by: Actor, revokes: bool, at: datetime) -> Sequence[Event]:
        """Record that the secret leaked, and end its token where that is wanted.

        revokes: else a SCIM token is marked, for ten places at most, and goes on. An API token
        always ends: whoever found it could make themselves others. Silent where the secret is over:
        one that was rotated away must not end its token.
        """
        if self.state(at=at) not in _OPEN:
            return []
        if isinstance(self.token, ApiToken):
            return self.token.revoke(by=by, reason=REASON)
        held = self.token.lasting_secret(self.digest, at=at)
        assert held is not None, "what has ended is not open"
        events: list[Event] = []
        if leak.place not in held.leaks and len(held.leaks) < PLACES_MAX:
            events.append(Leaked(by, self.secret_id, leak.url, leak.source))
        return [*events, *self.token.revoke(by=by, reason=REASON)] if revokes else events
