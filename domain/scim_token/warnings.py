"""Warnings about a SCIM token: events like any other, and what is kept of them. Pure.

A warning changes nothing about its token, is no use of it, and does not move `updated_at`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Final

import msgspec

from domain.scim_token.events import ScimTokenEvent
from domain.secret import SecretId

EXPIRING_DAYS: Final = (30, 7, 1)
"""How many days before its end a token is warned of, each once."""
ROTATION_ENDING_DAYS: Final = (7, 1)
"""How many days before the older secret of a rotation ends it is warned of, each once."""
UNUSED_AFTER: Final = timedelta(days=90)
DAY: Final = timedelta(days=1)

_UNTIL_END: Final = (*EXPIRING_DAYS, 0)
UNTIL_ROTATION_END: Final = (*ROTATION_ENDING_DAYS, 0)
"""Of an end: the days before it, and the end itself."""


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
    """The token was not used for 90 days, and not suspended in them.

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


class RotationEnding(ScimTokenWarning, frozen=True, forbid_unknown_fields=True):
    """A rotation is under way, and its older secret ends within `days` days, at `ends_at`.

    secret: the older one. days: one of ROTATION_ENDING_DAYS, the smallest that is true.
    ends_at: the end of the overlap.
    """

    topic: ClassVar[str] = "scim_token.rotation_ending.v1"
    secret: SecretId
    days: int
    ends_at: datetime


class OldSecretStillUsed(ScimTokenWarning, frozen=True, forbid_unknown_fields=True):
    """A rotation is under way, and its older secret was used a day after it began, or later.

    secret: the older one. day: how many whole days after the beginning of the rotation the use
    was, at least 1; each day is told once. used_at: the last use that was known.
    """

    topic: ClassVar[str] = "scim_token.old_secret_still_used.v1"
    secret: SecretId
    day: int
    used_at: datetime


EVENTS: Final[Sequence[type[ScimTokenWarning]]] = (
    Expiring,
    Expired,
    Unused,
    FirstUsed,
    UsedFromNewSource,
    RotationEnding,
    OldSecretStillUsed,
)


def is_premature(event: ScimTokenWarning, at: datetime) -> bool:
    """Whether a warning that was told at `at` was not true yet: it counts as not told.

    No clock that is right comes to that. A repair of ledger time leaves behind it what was told
    while the clock was ahead, at the instant that it set right.
    """
    true_from = _true_from(event)
    return true_from is not None and at < true_from


def _true_from(event: ScimTokenWarning) -> datetime | None:
    """The first instant at which a warning is true; None where it needs no clock."""
    match event:
        case Expiring():
            return event.expires_at - event.days * DAY
        case Expired():
            return event.expires_at
        case Unused():
            return event.since + UNUSED_AFTER
        case RotationEnding():
            return event.ends_at - event.days * DAY
        case OldSecretStillUsed():
            return event.used_at
        case _:
            return None


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was told of a token, as far as it must not be told again.

    days, expires_at: the last warning of an end, 0 for the end itself, and which end that was.
    unused_since: the beginning of the silence that was told last. first_source: where its first use
    came from, empty where that is not known; None until it is told. rotation_days, old_secret_day:
    of the last rotation, the days of the last warning of its end, and the last day on which the use
    of the older secret was told.
    """

    days: int | None = None
    expires_at: datetime | None = None
    unused_since: datetime | None = None
    first_source: str | None = None
    rotation_days: int | None = None
    old_secret_day: int | None = None

    def days_before(self, expires_at: datetime) -> int | None:
        """The days of the last warning of this end; None where none was told."""
        return self.days if self.expires_at == expires_at else None

    def after(  # noqa: PLR0911 - a table: one case per event
        self, event: ScimTokenWarning, at: datetime
    ) -> "Told":
        """The same with one warning more, which was told at `at`."""
        if is_premature(event, at):
            return self
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
            case RotationEnding():
                return msgspec.structs.replace(self, rotation_days=event.days)
            case OldSecretStillUsed():
                return msgspec.structs.replace(self, old_secret_day=event.day)
            case _:
                raise AssertionError(f"{event.topic} is not folded")

    def of_another_rotation(self) -> "Told":
        """The same, with nothing told of a rotation that begins now."""
        return msgspec.structs.replace(self, rotation_days=None, old_secret_day=None)


def days_left(end: datetime, at: datetime, *, of: Sequence[int] = _UNTIL_END) -> int | None:
    """The smallest of some numbers of days before an end that is true at `at`; None before all."""
    return min((days for days in of if at >= end - days * DAY), default=None)


def first_warning_at(end: datetime, *, after: datetime, of: Sequence[int] = _UNTIL_END) -> datetime:
    """When the first warning of an end becomes due. after: when the end was decided."""
    return max(after, end - max(of) * DAY)


def next_warning_at(end: datetime, *, told: int, of: Sequence[int] = _UNTIL_END) -> datetime | None:
    """When the next warning of an end becomes due. told: the days of the last one.

    None after the last: the end itself.
    """
    next_days = max((days for days in of if days < told), default=None)
    return None if next_days is None else end - next_days * DAY


def day_of_use(started_at: datetime, used_at: datetime | None, *, at: datetime) -> int | None:
    """On which day of a rotation its older secret was used, where that is to be told at `at`.

    None on the first day, which a client needs to be told its new secret; and where the use is more
    than a day ago: whoever was away would tell what is not true any more.
    """
    if used_at is None or used_at < started_at + DAY or used_at <= at - DAY:
        return None
    return (used_at - started_at) // DAY
