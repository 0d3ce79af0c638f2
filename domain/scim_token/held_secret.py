"""One secret of a token's state. Pure."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from domain.scim_token.leak import Place
from domain.secret import Digest, SecretId, secret_id


class HeldSecret(msgspec.Struct, frozen=True):
    """One secret of a token: its digest, and the end of its overlap (None for the current one).

    leaks: the places where it was found, oldest first. shown_as: what it is called, where it was
    digested anew; None where its digest says so. has_ended: whether it is on record that it
    ended, as an overlap ends without an event, too.
    """

    digest: Digest
    overlap_until: datetime | None = None
    leaks: tuple[Place, ...] = ()
    shown_as: SecretId | None = None
    has_ended: bool = False

    @property
    def id(self) -> SecretId:
        """What the secret is called, whichever key digests it."""
        return self.shown_as or secret_id(self.digest.value)


def marked(secrets: Sequence[HeldSecret], secret: SecretId, place: Place) -> tuple[HeldSecret, ...]:
    """The secrets, with one of them found at a place."""
    return tuple(
        msgspec.structs.replace(held, leaks=(*held.leaks, place)) if held.id == secret else held
        for held in secrets
    )


def digested_anew(
    secrets: Sequence[HeldSecret], secret: SecretId, digest: Digest
) -> tuple[HeldSecret, ...]:
    """The secrets, with one of them under another digest and called as before."""
    return tuple(
        msgspec.structs.replace(held, digest=digest, shown_as=secret) if held.id == secret else held
        for held in secrets
    )


def ended(secrets: Sequence[HeldSecret], secret: SecretId, at: datetime) -> tuple[HeldSecret, ...]:
    """The secrets, one of which has ended at `at`, or before that with its overlap."""
    return tuple(
        msgspec.structs.replace(
            held, overlap_until=min(at, held.overlap_until or at), has_ended=True
        )
        if held.id == secret
        else held
        for held in secrets
    )


def going_on(secrets: Sequence[HeldSecret], outgoing: HeldSecret | None) -> tuple[HeldSecret, ...]:
    """The secrets, one of which was to end with an overlap and is the current one again."""
    return tuple(
        msgspec.structs.replace(held, overlap_until=None) if held == outgoing else held
        for held in secrets
    )
