"""One secret of a token's state. Pure."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from domain.scim_token.leak import Place
from domain.secret import Digest, SecretId, secret_id


class HeldSecret(msgspec.Struct, frozen=True):
    """One secret of a token: its digest, and the end of its overlap (None for the current one).

    leaks: the places where it was found, oldest first.
    """

    digest: Digest
    overlap_until: datetime | None = None
    leaks: tuple[Place, ...] = ()


def marked(secrets: Sequence[HeldSecret], secret: SecretId, place: Place) -> tuple[HeldSecret, ...]:
    """The secrets, with one of them found at a place."""
    return tuple(
        msgspec.structs.replace(held, leaks=(*held.leaks, place))
        if secret_id(held.digest.value) == secret
        else held
        for held in secrets
    )
