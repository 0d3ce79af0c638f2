"""Warnings about a SCIM token: events like any other, and what is kept of them. Pure.

A warning changes nothing about its token, is no use of it, and does not move `updated_at`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Final

import msgspec

from domain.scim_token.events import ScimTokenEvent

EXPIRING_DAYS: Final = (30, 7, 1)
"""How many days before its end a token is warned of, each once."""
UNUSED_AFTER: Final = timedelta(days=90)


class ScimTokenWarning(ScimTokenEvent, frozen=True, forbid_unknown_fields=True):
    """Any warning."""


class Expiring(ScimTokenWarning, frozen=True, forbid_unknown_fields=True):
    """The token ends within `days` days, at `expires_at`.

    days: one of EXPIRING_DAYS, the smallest that is true.
    """

    topic: ClassVar[str] = "scim_token.expiring.v1"
    days: int
    expires_at: datetime


class Expired(ScimTokenWarning, frozen=True, forbid_unknown_fields=True):
    """The token has ended, at `expires_at`."""

    topic: ClassVar[str] = "scim_token.expired.v1"
    expires_at: datetime


class Unused(ScimTokenWarning, frozen=True, forbid_unknown_fields=True):
    """The token was not used for 90 days.

    since: its last use; where there was none, its creation.
    """

    topic: ClassVar[str] = "scim_token.unused.v1"
    since: datetime


class FirstUsed(ScimTokenWarning, frozen=True, forbid_unknown_fields=True):
    """The token was used for the first time.

    source: address that it was used from; None where it is not known.
    """

    topic: ClassVar[str] = "scim_token.first_used.v1"
    source: str | None


class UsedFromNewSource(ScimTokenWarning, frozen=True, forbid_unknown_fields=True):
    """The token was used from an address that it had not been used from before.

    source: that address; None for the first use of which it is not known.
    """

    topic: ClassVar[str] = "scim_token.used_from_new_source.v1"
    source: str | None


EVENTS: Final[Sequence[type[ScimTokenWarning]]] = (
    Expiring,
    Expired,
    Unused,
    FirstUsed,
    UsedFromNewSource,
)


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was told of a token, as far as it must not be told again.

    days, expires_at: the last warning of an end, 0 for the end itself, and which end that was.
    unused_since: the beginning of the silence that was told last. first_source: where its first use
    came from, empty where that is not known; None until it is told.
    """

    days: int | None = None
    expires_at: datetime | None = None
    unused_since: datetime | None = None
    first_source: str | None = None

    def days_before(self, expires_at: datetime) -> int | None:
        """The days of the last warning of this end; None where none was told."""
        return self.days if self.expires_at == expires_at else None

    def after(self, event: ScimTokenWarning) -> "Told":
        """The same with one warning more."""
        match event:
            case Expiring():
                return msgspec.structs.replace(self, days=event.days, expires_at=event.expires_at)
            case Expired():
                return msgspec.structs.replace(self, days=0, expires_at=event.expires_at)
            case Unused():
                return msgspec.structs.replace(self, unused_since=event.since)
            case FirstUsed():
                return msgspec.structs.replace(self, first_source=event.source or "")
            case UsedFromNewSource():
                return self
            case _:
                raise AssertionError(f"{event.topic} is not folded")


def days_left(expires_at: datetime, at: datetime) -> int | None:
    """The smallest of EXPIRING_DAYS that is true at `at`; 0 after the end, None before them all."""
    return min(
        (days for days in (*EXPIRING_DAYS, 0) if at >= expires_at - timedelta(days=days)),
        default=None,
    )


def first_warning_at(expires_at: datetime, *, after: datetime) -> datetime:
    """When the first warning of an end becomes due. after: when the end was decided."""
    return max(after, expires_at - timedelta(days=max(EXPIRING_DAYS)))


def next_warning_at(expires_at: datetime, *, told: int) -> datetime | None:
    """When the next warning of an end becomes due. told: the days of the last one.

    None after the last: the end itself.
    """
    next_days = max((days for days in (*EXPIRING_DAYS, 0) if days < told), default=None)
    return None if next_days is None else expires_at - timedelta(days=next_days)
