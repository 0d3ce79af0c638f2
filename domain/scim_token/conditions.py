"""What SCIM tokens are chosen by when many are revoked at once. Pure."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from domain.scim_token.token import ScimToken
from domain.scim_token.values import ENDLESS_DAYS, lifetime_days


class LongestLives(msgspec.Struct, frozen=True):
    """How many `lifetime_days` the policies in force allow a token.

    general: of any team. own: of the teams that ask for less. How many live tokens a team may have
    is no matter of one token: none breaks that rule by itself.
    """

    general: int = ENDLESS_DAYS
    own: Mapping[UUID, int] = {}

    def are_exceeded_by(
        self, *, team_id: UUID, created_at: datetime, expires_at: datetime | None
    ) -> bool:
        """Whether a token of that team lives longer, or has no end and should have one."""
        return lifetime_days(created_at, expires_at) > self.own.get(team_id, self.general)


class TokenConditions(msgspec.Struct, frozen=True):
    """All that are given must hold; of a token that is revoked, none ever does.

    team_id, created_by: of exactly this team, made by this user. ids: one of these.
    unused_since: there at that instant, and not used since. created_before: made before it.
    violates_policy: lives longer than `longest_lives` allow, which are those in force when the
    conditions are judged.
    """

    team_id: UUID | None = None
    created_by: UUID | None = None
    ids: frozenset[UUID] | None = None
    unused_since: datetime | None = None
    created_before: datetime | None = None
    violates_policy: bool = False
    longest_lives: LongestLives = LongestLives()

    @property
    def are_given(self) -> bool:
        """Whether there is one at all: without any, every token would be chosen."""
        return self != TokenConditions()

    def hold_for(self, token: ScimToken) -> bool:
        """Whether a token is chosen, as it stands."""
        return (
            token.revoked_at is None
            and self.team_id in {None, token.team_id}
            and self.created_by in {None, token.created_by}
            and (self.ids is None or token.id in self.ids)
            and (self.created_before is None or token.created_at < self.created_before)
            and (self.unused_since is None or _is_unused(token, self.unused_since))
            and (not self.violates_policy or self._is_exceeded_by(token))
        )

    def _is_exceeded_by(self, token: ScimToken) -> bool:
        return self.longest_lives.are_exceeded_by(
            team_id=token.team_id, created_at=token.created_at, expires_at=token.expires_at
        )


def _is_unused(token: ScimToken, since: datetime) -> bool:
    """A token that was not there yet tells nothing by not having been used."""
    used_at = token.last_used_at
    return token.created_at < since and (used_at is None or used_at < since)
