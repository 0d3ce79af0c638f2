"""How the audit trail tells each event: what it adds to its place in the ledger."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from domain import policy
from domain.api_token import events as api_token
from domain.archive import extended as archive
from domain.event import Actor, Event
from domain.keyring import retirement as keyring
from domain.losses import declared as losses
from domain.refusals import tally as refusal_tally
from domain.scim_token import events as scim_token
from domain.scim_token import warnings
from domain.scim_token.events import Presentation
from domain.scim_token.warnings import UNUSED_AFTER
from domain.secret import Digest, SecretId, secret_id
from projections.described import rfc3339


class Detail(msgspec.Struct, frozen=True):
    """What an event adds to its place in the ledger. A struct: one is made for each row.

    is_its_own: what an API token's holder does with it, which nobody signs. secret: its id. name,
    ends_at: what a SCIM token has from then on, an end as text ("infinity" for none); None where
    that is as before.
    """

    reason: str | None = None
    actor: Actor | None = None
    how: Presentation | None = None
    count: int = 1
    is_its_own: bool = False
    secret: str | None = None
    cause: UUID | None = None
    name: str | None = None
    ends_at: str | None = None


NOBODY: Final = Actor(user_id=None, api_token_id=None)
UNTOLD: Final = Presentation(door="")

_FINISHED: Final = {
    "silent": "the newer secret is in use, this one is not",
    "over": "the overlap is over",
    "mistaken": "it has not finished: the clock was wrong",
}

DETAILS: Final[Mapping[type[Event], Callable[[Any], Detail]]] = {
    scim_token.Created: lambda event: Detail(
        event.reason,
        event.created_by,
        secret=secret_id(event.digest.value),
        name=event.name,
        ends_at=_end(event.expires_at),
    ),
    scim_token.Used: lambda event: Detail(
        how=event.presentation, count=event.count, secret=event.secret
    ),
    scim_token.Refused: lambda event: Detail(
        reason=event.reason, how=event.presentation, secret=event.secret
    ),
    scim_token.Rotated: lambda event: Detail(
        event.reason,
        event.rotated_by,
        None if event.setup_link is None else _by_link(event.setup_link),
        secret=secret_id(event.digest.value),
    ),
    scim_token.Leaked: lambda event: Detail(
        event.source,
        event.reported_by,
        _noted(event.url),
        secret=event.secret,
    ),
    scim_token.Changed: lambda event: Detail(
        event.reason,
        event.changed_by,
        _noted(_changed(event)),
        name=None if event.name is UNSET else event.name,
        ends_at=None if event.expires_at is UNSET else _end(event.expires_at),
    ),
    scim_token.SetupLinkCreated: lambda event: Detail(
        event.reason,
        event.created_by,
        _noted(f"link {secret_id(event.digest)}, which ends at {rfc3339(event.ends_at)}"),
    ),
    scim_token.SetupLinkEnded: lambda event: Detail(
        event.reason, event.ended_by, _noted(f"link {event.setup_link}")
    ),
    scim_token.Suspended: lambda event: Detail(event.reason, event.suspended_by),
    scim_token.Resumed: lambda event: Detail(event.reason, event.resumed_by),
    scim_token.NetworksSet: lambda event: Detail(
        event.reason, event.set_by, _noted(", ".join(event.networks) or "any network")
    ),
    scim_token.Rekeyed: lambda event: _rekeyed(event.secret, event.digest),
    scim_token.RotationCompleted: lambda event: Detail(
        event.reason, event.completed_by, secret=event.secret
    ),
    scim_token.RotationCancelled: lambda event: Detail(
        event.reason, event.cancelled_by, secret=event.secret
    ),
    scim_token.RotationFinished: lambda event: Detail(
        how=_noted(_FINISHED[event.cause]), secret=event.secret
    ),
    scim_token.Revoked: lambda event: Detail(
        event.reason, event.revoked_by, event.presentation, secret=event.secret, cause=event.cause
    ),
    warnings.Expiring: lambda event: _warning(
        f"ends at {rfc3339(event.expires_at)}, within {_days(event.days)}"
    ),
    warnings.Expired: lambda event: _warning(f"ended at {rfc3339(event.expires_at)}"),
    warnings.FirstUsed: lambda event: _warning("the first use", event.source),
    warnings.UsedFromNewSource: lambda event: _warning(
        "the first use from this address" if event.source else "the first use of unknown address",
        event.source,
    ),
    warnings.Unused: lambda event: _warning(
        f"not used since {rfc3339(event.since)}, for {_days(UNUSED_AFTER.days)}"
    ),
    warnings.RotationEnding: lambda event: _warning(
        f"the older secret ends at {rfc3339(event.ends_at)}, within {_days(event.days)}",
        secret=event.secret,
    ),
    warnings.OldSecretStillUsed: lambda event: _warning(
        f"the older secret was used at {rfc3339(event.used_at)}, {_days(event.day)} after the "
        "rotation began",
        secret=event.secret,
    ),
    api_token.Created: lambda event: Detail(
        event.reason,
        event.created_by,
        how=None if event.session_of is None else _noted("a session of the console"),
    ),
    api_token.Used: lambda event: Detail(how=event.presentation, is_its_own=True),
    api_token.Refused: lambda event: Detail(
        event.reason, how=_with_permission(event), is_its_own=True
    ),
    api_token.Rotated: lambda event: Detail(event.reason, event.rotated_by),
    api_token.Rekeyed: lambda event: _rekeyed(event.secret, event.digest),
    api_token.Revoked: lambda event: Detail(event.reason, event.revoked_by),
    policy.Set: lambda event: Detail(actor=event.set_by, how=_noted(policy.in_words(event.rules))),
    keyring.Retired: lambda event: Detail(
        event.reason, event.retired_by, _noted(f"key {event.generation}")
    ),
    losses.LossDeclared: lambda event: Detail(
        event.reason,
        event.declared_by,
        _noted(losses.in_words(event)),
    ),
    archive.Extended: lambda event: Detail(
        actor=event.archived_by, how=_noted(archive.in_words(event))
    ),
    refusal_tally.Counted: lambda event: Detail(
        event.reason, None, Presentation(event.door), event.count
    ),
}
"""How each event is told. An event that is missing here stops the view, and a test before that."""


def _noted(note: str | None) -> Presentation:
    return Presentation(door="", note=note)


def _rekeyed(secret: SecretId, digest: Digest) -> Detail:
    note = f"digested under key {digest.key_generation}"
    return Detail(secret=secret, how=_noted(note))


def _by_link(link: str) -> Presentation:
    return _noted(f"shown to the holder of the setup link {link}")


def _with_permission(event: api_token.Refused) -> Presentation:
    if event.permission is None:
        return event.presentation
    return replace(event.presentation, note=f"lacks {event.permission}")


def _end(expires_at: datetime | None) -> str:
    return "infinity" if expires_at is None else rfc3339(expires_at)


def _changed(event: scim_token.Changed) -> str:
    """What a token has now; a name is as its creator wrote it."""
    told = [] if event.name is UNSET else [f"name {event.name}"]
    if event.expires_at is None:
        told.append("no end")
    elif event.expires_at is not UNSET:
        told.append(f"ends at {rfc3339(event.expires_at)}")
    return ", ".join(told)


def _warning(text: str, source: str | None = None, *, secret: str | None = None) -> Detail:
    return Detail(how=Presentation(door="", source=source, note=text), secret=secret)


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"
