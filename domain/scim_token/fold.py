"""Fold the events of a SCIM token into its state. Pure."""

from datetime import datetime

import msgspec
from msgspec import UNSET

from domain.event import Recorded, next_version
from domain.scim_token.events import (
    Changed,
    Created,
    Leaked,
    NetworksSet,
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
from domain.scim_token.held_secret import HeldSecret, digested_anew, ended, going_on, marked
from domain.scim_token.leak import place_of
from domain.scim_token.rotation import has_finished
from domain.scim_token.token import ScimToken, earliest
from domain.scim_token.warnings import ScimTokenWarning
from domain.secret import secret_id
from domain.setup_link import SetupLink


def evolve(token: ScimToken | None, recorded: Recorded) -> ScimToken:
    """Fold one recorded event into the state."""
    event = recorded.event
    assert isinstance(event, ScimTokenEvent), event
    if isinstance(event, Created):
        assert token is None, "a stream starts once"
        assert event.created_by.user_id is not None
        return ScimToken(
            id=recorded.originator_id,
            version=next_version(token, recorded),
            team_id=event.team_id,
            name=event.name,
            created_by=event.created_by.user_id,
            created_at=recorded.at,
            updated_at=recorded.at,
            secrets=(HeldSecret(event.digest),),
            expires_at=event.expires_at,
        )
    assert token is not None, "a stream starts with Created"
    return msgspec.structs.replace(
        token, version=next_version(token, recorded), **_change(token, event, recorded.at)
    )


def _change(  # noqa: C901, PLR0911, PLR0912 - a table: one case per event
    token: ScimToken, event: ScimTokenEvent, at: datetime
) -> dict[str, object]:
    match event:
        case Used():
            return {"last_used_at": at, "uses": token.uses + event.count}
        case Refused():
            return {"refused_at": at}
        case Rotated() | RotationCompleted() | RotationCancelled() | RotationFinished():
            return _rotation(token, event, at)
        case Rekeyed():
            return {"secrets": digested_anew(token.secrets, event.secret, event.digest)}
        case Changed():
            return _changed(token, event) | {"updated_at": at}
        case ScimTokenWarning():
            return {"told": token.told.after(event, at)}
        case Suspended():
            return {"suspended_at": at, "updated_at": at, "setup_link": None}
        case Resumed():
            return {"suspended_at": None, "updated_at": at}
        case NetworksSet():
            return {"networks": event.networks}
        case Revoked():
            return {"revoked_at": at, "updated_at": at, "setup_link": None}
        case Leaked():
            return {"secrets": marked(token.secrets, event.secret, place_of(event.url))}
        case SetupLinkCreated() | SetupLinkEnded():
            return {"setup_link": _link(event)}
        case _:
            raise AssertionError(f"{event.topic} is not folded")


def _rotation(
    token: ScimToken,
    event: Rotated | RotationCompleted | RotationCancelled | RotationFinished,
    at: datetime,
) -> dict[str, object]:
    match event:
        case Rotated():
            older = tuple(
                msgspec.structs.replace(
                    held, overlap_until=earliest(held.overlap_until, event.overlap_until)
                )
                for held in token.unended_secrets(at)
            )
            return {
                "secrets": (*older, HeldSecret(event.digest)),
                "told": token.told.of_another_rotation(),
                "rotated_at": at,
                "updated_at": at,
                **_revealed(token, event, at),
            }
        case RotationCompleted():
            return {"secrets": ended(token.secrets, event.secret, at), "updated_at": at}
        case RotationCancelled():
            secrets = ended(token.secrets, event.secret, at)
            return {"secrets": going_on(secrets, token.outgoing), "updated_at": at}
        case RotationFinished():
            ends = (each.overlap_until for each in token.secrets if each.id == event.secret)
            if not has_finished(event, at, ends=(*ends, token.expires_at)):
                return {}
            return {"secrets": ended(token.secrets, event.secret, at)}


def _changed(token: ScimToken, event: Changed) -> dict[str, object]:
    """The name and the end, where there are others; another end has to be told anew."""
    after: dict[str, object] = {}
    if event.name is not UNSET:
        after["name"] = event.name
    if event.expires_at is not UNSET:
        told = msgspec.structs.replace(token.told, days=None, expires_at=None)
        after |= {"expires_at": event.expires_at, "told": told}
    return after


def _link(event: SetupLinkCreated | SetupLinkEnded) -> SetupLink | None:
    if isinstance(event, SetupLinkEnded):
        return None
    return SetupLink(event.digest, event.ends_at, key_generation=event.key_generation)


def _revealed(token: ScimToken, event: Rotated, at: datetime) -> dict[str, object]:
    """The link that showed a new secret shows no other."""
    if event.setup_link is None:
        return {}
    assert token.setup_link is not None, "what shows a secret is there"
    secret = secret_id(event.digest.value)
    return {"setup_link": msgspec.structs.replace(token.setup_link, revealed_at=at, secret=secret)}
