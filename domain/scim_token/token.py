"""The `ScimToken` aggregate: its state and its decisions. Pure.

A decision is a method: state and command in, new events out, or a refusal raised. `fold.py` folds a
recorded event into the state. Neither reads a clock, a random source or a database.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from domain.errors import (
    InvalidValue,
    NetworkNotAllowed,
    TokenExpired,
    TokenRefused,
    TokenRevoked,
    TokenSuspended,
    TokenUnknown,
    UsedSince,
)
from domain.event import Actor, SecretRow
from domain.networks.plain import is_outside
from domain.scim_token.events import (
    Created,
    Presentation,
    Refused,
    Revoked,
    ScimTokenEvent,
    Used,
)
from domain.scim_token.held_secret import HeldSecret
from domain.scim_token.values import check_name, check_reason, kept_expiry
from domain.scim_token.warnings import Told
from domain.secret import Digest, SecretId, secret_id
from domain.setup_link import SetupLink

REFUSAL_EVERY: Final = timedelta(minutes=1)


class ScimToken(msgspec.Struct, frozen=True):
    """State after `version` events. Instants are ledger time.

    networks: from which alone it is good, in CIDR notation; from any where there is none.
    """

    id: UUID
    version: int
    team_id: UUID
    name: str
    created_by: UUID
    created_at: datetime
    updated_at: datetime
    secrets: tuple[HeldSecret, ...]
    expires_at: datetime | None = None
    rotated_at: datetime | None = None
    revoked_at: datetime | None = None
    suspended_at: datetime | None = None
    refused_at: datetime | None = None
    last_used_at: datetime | None = None
    uses: int = 0
    told: Told = Told()
    setup_link: SetupLink | None = None
    networks: tuple[str, ...] = ()

    @staticmethod
    def create(
        *,
        team_id: UUID,
        name: str,
        created_by: Actor,
        digest: Digest,
        expires_at: datetime | None,
        at: datetime,
        reason: str | None = None,
    ) -> list[ScimTokenEvent]:
        """Create a token for a team.

        Raises InvalidValue on a name or a reason that is none (`values.py`), and on an expiry that
        is not in the future or after the year 9998. Any time zone is taken, UTC is kept.
        """
        check_name(name)
        check_reason(reason)
        if created_by.user_id is None:
            raise InvalidValue("/created_by", "a token needs a user who creates it")
        if expires_at is not None:
            expires_at = kept_expiry(expires_at, after=at)
        return [
            Created(
                team_id=team_id,
                name=name,
                created_by=created_by,
                digest=digest,
                expires_at=expires_at,
                reason=reason,
            )
        ]

    @property
    def stream_team(self) -> UUID:
        """The team that a success speaks for."""
        return self.team_id

    def use(
        self,
        digest: bytes,
        *,
        presentation: Presentation,
        count: int,
        first_at: datetime,
        at: datetime,
    ) -> list[ScimTokenEvent]:
        """Authenticate with the secret of `digest`.

        Raises TokenRefused: unknown, revoked, suspended, expired, or from a network that is not
        allowed.
        """
        refusal = self.refusal_of(digest, presentation, at=at)
        if refusal is not None:
            raise refusal
        return [Used(count, min(first_at, at), presentation, self.secret_id(digest))]

    def refusal(self, digest: bytes, *, at: datetime) -> TokenRefused | None:
        """Why the secret of `digest` would be refused at `at`, whoever presents it; None when it
        authenticates.

        What ended for good comes before a suspension, which can be taken back, and to no avail
        then. Of a token that was rotated, a digest that it does not hold (any more) is one whose
        time is over: its row outlives it, and the gate asks for no digest that names another token.
        """
        row = next((row for row in self.secret_rows() if row.digest == digest), None)
        if row is None:
            return TokenUnknown() if self.rotated_at is None else TokenExpired()
        if row.is_void:
            return TokenRevoked()
        if self.lasting_secret(digest, at=at) is None:
            return TokenExpired()
        return None if self.suspended_at is None else TokenSuspended()

    def refusal_of(
        self, digest: bytes, presentation: Presentation, *, at: datetime
    ) -> TokenRefused | None:
        """Why this presentation would be refused at `at`; None when it authenticates.

        An address that is not known is in no network.
        """
        refusal = self.refusal(digest, at=at)
        if refusal is None and is_outside(presentation.source, self.networks):
            return NetworkNotAllowed()
        return refusal

    def refuse(
        self, digest: bytes, *, presentation: Presentation, at: datetime
    ) -> list[ScimTokenEvent]:
        """Record that a presentation did not authenticate; silent within a minute."""
        refusal = self.refusal_of(digest, presentation, at=at)
        if refusal is None or (
            self.refused_at is not None and at < self.refused_at + REFUSAL_EVERY
        ):
            return []
        return [Refused(refusal.reason, presentation, self.secret_id(digest))]

    def revoke(
        self,
        *,
        by: Actor | None,
        reason: str | None,
        unused_since: datetime | None = None,
        cause: UUID | None = None,
    ) -> list[ScimTokenEvent]:
        """Revoke; a second time records nothing (RFC 7009 §2.2).

        unused_since: only if it was not used at or after this instant. cause: as in `Revoked`.
        Raises UsedSince, and InvalidValue on a reason that `check_reason` refuses.
        """
        if self.revoked_at is not None:
            return []
        check_reason(reason)
        used_at = self.last_used_at
        if unused_since is not None and used_at is not None and used_at >= unused_since:
            raise UsedSince(used_at)
        return [Revoked(revoked_by=by, reason=reason, cause=cause)]

    def burn(
        self, digest: bytes, *, at: datetime, presentation: Presentation | None = None
    ) -> list[ScimTokenEvent]:
        """Revoke on the word of whoever holds the secret of `digest` (RFC 7009).

        Silent unless it authenticates, or would if the token were resumed: a secret whose overlap
        is over, perhaps because it leaked, must not end the token that was rotated away from it.
        """
        if self.revoked_at is not None or self.lasting_secret(digest, at=at) is None:
            return []
        return [
            Revoked(
                revoked_by=None,
                reason=None,
                presentation=presentation,
                secret=self.secret_id(digest),
            )
        ]

    def held(self, digest: bytes) -> HeldSecret | None:
        """The secret of `digest`; None where the token does not hold it (any more)."""
        return next((held for held in self.secrets if held.digest.value == digest), None)

    def lasting_secret(self, digest: bytes, *, at: datetime) -> HeldSecret | None:
        """The secret of `digest` while its time lasts, whether the token is suspended or not."""
        held = self.held(digest)
        if held is None:
            return None
        ends_at = earliest(self.expires_at, held.overlap_until)
        return held if ends_at is None or ends_at > at else None

    def secret_id(self, digest: bytes) -> SecretId:
        """What the secret of `digest` is called."""
        held = self.held(digest)
        return secret_id(digest) if held is None else held.id

    def held_as(self, candidates: Sequence[bytes]) -> bytes:
        """Under which of its digests the token holds a secret; the first where it does not.

        Between a look at the ledger and a decision the secret may have been digested anew.
        """
        return next((digest for digest in candidates if self.held(digest)), candidates[0])

    def good_until(self, candidates: Sequence[bytes], *, at: datetime) -> datetime | None:
        """The end of a secret that was good at `at`; None where there is none.

        Since then it may have been digested anew, or be held no more: it ended at `at` then.
        """
        digest = self.held_as(candidates)
        return next((row.good_until for row in self.secret_rows() if row.digest == digest), at)

    @property
    def outgoing(self) -> HeldSecret | None:
        """The older secret of the last rotation, until it is on record that it ended.

        None where that rotation had no overlap.
        """
        if self.rotated_at is None:
            return None
        return next(
            (
                held
                for held in reversed(self.secrets)
                if held.overlap_until is not None
                and held.overlap_until > self.rotated_at
                and not held.has_ended
            ),
            None,
        )

    def unended_secrets(self, at: datetime) -> tuple[HeldSecret, ...]:
        """The secrets, without those whose overlap was over before `at`:
        their rows stand as they ended.

        A command writes the rows of all secrets that its token holds, under the append lock: a
        token that is rotated for years must not hold thousands.
        """
        return tuple(
            held for held in self.secrets if held.overlap_until is None or at <= held.overlap_until
        )

    def secret_rows(self) -> list[SecretRow]:
        """How each secret stands: the statement of the gate compares nothing but this.

        Ledger time never goes back, so what ended when the token was suspended is over until it is
        resumed.
        """
        return [
            SecretRow(
                held.digest.value,
                earliest(self.expires_at, held.overlap_until, self.suspended_at),
                self.revoked_at is not None,
                self.networks,
            )
            for held in self.secrets
        ]


def earliest(*instants: datetime | None) -> datetime | None:
    """The first of the instants that there are."""
    return min((instant for instant in instants if instant is not None), default=None)
