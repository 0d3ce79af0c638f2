"""given / when / then for a `ScimToken`: events in, events or a refusal out.

No ledger, no database.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Final, TypeAlias
from uuid import UUID

import pytest
from msgspec import UNSET, UnsetType

from domain.errors import Refusal
from domain.event import Actor, Recorded
from domain.scim_token.events import (
    Changed,
    Created,
    NetworksSet,
    Presentation,
    Refused,
    Rekeyed,
    Resumed,
    Revoked,
    Rotated,
    RotationCancelled,
    RotationCompleted,
    RotationFinished,
    ScimTokenEvent,
    SetupLinkCreated,
    SetupLinkEnded,
    Suspended,
    Used,
)
from domain.scim_token.fold import evolve
from domain.scim_token.token import ScimToken
from domain.secret import Digest, secret_id

MILLISECOND: Final = timedelta(milliseconds=1)
MINUTE: Final = timedelta(minutes=1)
T0: Final = datetime(2021, 8, 10, 10, tzinfo=UTC)
T1, T2, T3, T4 = (T0 + hours * timedelta(hours=1) for hours in range(1, 5))

TOKEN_ID: Final = UUID("9c858901-8a57-4791-81fe-4c455b099bc9")
TEAM_ID: Final = UUID("05daecaf-4365-42e8-8370-8127de5dd717")
COMMAND_ID: Final = UUID(int=7)
ADA: Final = Actor(user_id=UUID(int=1), api_token_id=UUID(int=2))
HOLDER: Final = Actor(user_id=None, api_token_id=None, source="192.0.2.7", user_agent="Mozilla/5.0")
LINK: Final = bytes([31]) * 32
"""What stands for the digest of a setup link's code."""
IDP: Final = Presentation(door="scim", source="192.0.2.1")
FIRST, SECOND, THIRD, UNKNOWN = (Digest(bytes([number]) * 32, 1) for number in range(1, 5))
ANEW: Final = Digest(bytes([21]) * 32, 2)
"""What stands for the digest of the first secret under the next key."""

Given: TypeAlias = "tuple[ScimTokenEvent, datetime]"
"""An event and when it was recorded."""


def created(at: datetime = T0, *, expires_at: datetime | None = None, name: str = "Okta") -> Given:
    """The token with its first secret."""
    return Created(
        team_id=TEAM_ID, name=name, created_by=ADA, digest=FIRST, expires_at=expires_at
    ), at


def used(at: datetime = T1, *, count: int = 1, digest: Digest = FIRST) -> Given:
    """It authenticated."""
    return Used(count, at, IDP, secret_id(digest.value)), at


def refused(at: datetime = T1, *, reason: str = "revoked", digest: Digest = FIRST) -> Given:
    """One of its secrets was turned away."""
    return Refused(reason, IDP, secret_id(digest.value)), at


def rotated(
    at: datetime = T1, *, digest: Digest = SECOND, overlap: timedelta = timedelta(hours=24)
) -> Given:
    """It got another secret."""
    return Rotated(rotated_by=ADA, digest=digest, overlap_until=at + overlap), at


def changed(
    at: datetime = T1,
    *,
    name: str | UnsetType = UNSET,
    expires_at: datetime | UnsetType | None = UNSET,
) -> Given:
    """It has another name or end."""
    return Changed(changed_by=ADA, name=name, expires_at=expires_at), at


def linked(at: datetime = T1, *, digest: bytes = LINK, ends_at: datetime | None = None) -> Given:
    """It can be handed over by a link."""
    return SetupLinkCreated(ADA, digest, ends_at or at + timedelta(hours=24)), at


def unlinked(at: datetime = T2, *, digest: bytes = LINK) -> Given:
    """Its link was ended."""
    return SetupLinkEnded(ADA, secret_id(digest)), at


def revealed(at: datetime = T2, *, digest: Digest = SECOND, link: bytes = LINK) -> Given:
    """The holder of its link was shown another secret; nobody had used the one before."""
    return Rotated(HOLDER, digest, at, setup_link=secret_id(link)), at


def suspended(at: datetime = T1) -> Given:
    """It lets nobody in."""
    return Suspended(suspended_by=ADA), at


def resumed(at: datetime = T2) -> Given:
    """It lets in again whom it did."""
    return Resumed(resumed_by=ADA), at


def restricted(*networks: str, at: datetime = T1) -> Given:
    """It is good from these networks alone; from any where there is none."""
    return NetworksSet(ADA, networks), at


def rekeyed(at: datetime = T1, *, digest: Digest = FIRST, anew: Digest = ANEW) -> Given:
    """The secret that was made with `digest` is held as `anew`."""
    return Rekeyed(secret=secret_id(digest.value), digest=anew), at


def completed(at: datetime = T2, *, digest: Digest = FIRST) -> Given:
    """Its older secret was ended."""
    return RotationCompleted(completed_by=ADA, secret=secret_id(digest.value)), at


def cancelled(at: datetime = T2, *, digest: Digest = SECOND) -> Given:
    """Its newer secret was ended."""
    return RotationCancelled(cancelled_by=ADA, secret=secret_id(digest.value)), at


def finished(at: datetime = T2, *, digest: Digest = FIRST, cause: str = "silent") -> Given:
    """Its older secret ended by itself."""
    return RotationFinished(secret=secret_id(digest.value), cause=cause), at


def revoked(at: datetime = T1) -> Given:
    """It is over."""
    return Revoked(revoked_by=ADA, reason=None), at


def recorded(events: Sequence[Given]) -> list[Recorded]:
    """The events at their places in the token's stream."""
    return [
        Recorded(TOKEN_ID, version, at, COMMAND_ID, event)
        for version, (event, at) in enumerate(events, start=1)
    ]


def state_after(*events: Given) -> ScimToken:
    """The token that the events lead to."""
    token = reduce(evolve, recorded(events), None)
    assert token is not None
    return token


@dataclass(frozen=True)
class When:
    """A command on a state; each of the three says what must follow."""

    token: ScimToken
    command: Callable[[ScimToken], Sequence[ScimTokenEvent]]

    def records(self, *events: ScimTokenEvent) -> None:
        """Exactly these events follow."""
        assert list(self.command(self.token)) == list(events)

    def stays_silent(self) -> None:
        """Nothing follows: what was asked for is so already."""
        self.records()

    def refuses(self, refusal: type[Refusal], **attributes: object) -> None:
        """Exactly this refusal follows, with these attributes."""
        with pytest.raises(refusal) as caught:
            self.command(self.token)
        assert type(caught.value) is refusal
        assert {name: getattr(caught.value, name) for name in attributes} == attributes


@dataclass(frozen=True)
class Scenario:
    """A token with a past."""

    events: tuple[Given, ...]

    def when(self, command: Callable[[ScimToken], Sequence[ScimTokenEvent]]) -> When:
        """Give it a command."""
        return When(state_after(*self.events), command)


def given(*events: Given) -> Scenario:
    """Start from a past."""
    return Scenario(events)
