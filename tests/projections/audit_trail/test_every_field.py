"""What an event holds is told in its place of the trail, unless it is named here as what is not.

Each field has a value of its own, so that one which is told for another shows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import product
from typing import Any, Final
from uuid import UUID

import pytest
from msgspec import UNSET
from msgspec.inspect import NoneType, UnionType, type_info
from msgspec.structs import asdict, fields, replace

from domain import policy
from domain.api_token import events as api_token
from domain.api_token.permissions import Permission
from domain.archive import extended as archive
from domain.event import Actor, Event
from domain.eventstore.event_registry import REGISTRY
from domain.keyring import retirement as keyring
from domain.losses import declared as losses
from domain.policy import Rules
from domain.refusals import tally as refusal_tally
from domain.scim_token import events as scim_token
from domain.scim_token import warnings
from domain.scim_token.events import Presentation
from domain.secret import Digest
from projections.audit_trail.view import AuditEvent, event_of, kind_of, row_of
from projections.described import rfc3339
from projections.projection import LogEntry
from tests.domain.scenario import T0

EVENTS: Final[Sequence[type[Event]]] = [
    *scim_token.EVENTS,
    *warnings.EVENTS,
    *api_token.EVENTS,
    *keyring.EVENTS,
    *losses.EVENTS,
    *archive.EVENTS,
    *refusal_tally.EVENTS,
    *policy.EVENTS,
]
ENTRY: Final = LogEntry(
    7, UUID(int=1001), 3, "", T0 - timedelta(days=9), UUID(int=1002), b"", UUID(int=1003)
)
BY: Final = Actor(UUID(int=1), UUID(int=2), "192.0.2.1", "curl", "root@db1")
HOW: Final = Presentation("scim", "bare", "192.0.2.2", "Okta", "GET", "Users", "bare token")
DAYS: Final = [T0 + number * timedelta(days=1) for number in range(9)]
VALUES: Final[Mapping[str, Any]] = {
    "reason": "why",
    "presentation": HOW,
    "count": 31,
    "secret": "0a0b0c0d",
    "digest": Digest(bytes([17]) * 32, 5),
    "cause": UUID(int=3),
    "name": "Entra",
    "expires_at": DAYS[1],
    "ends_at": DAYS[2],
    "overlap_until": DAYS[3],
    "since": DAYS[4],
    "used_at": DAYS[5],
    "first_at": DAYS[6],
    "minute": DAYS[7],
    "setup_link": "2a2b2c2d",
    "url": "https://example.com/a",
    "source": "192.0.2.3",
    "networks": ("192.0.2.0/24", "2001:db8::/32"),
    "days": 41,
    "day": 42,
    "door": "verify",
    "permission": Permission.AUDIT_READ,
    "rules": Rules(max_lifetime_days=43, max_live_tokens=44),
    "generation": 45,
    "key_generation": 46,
    "after": 50,
    "until": 60,
    "before": DAYS[8],
    "events": 51,
    "removed": 52,
    "uses": 53,
    "seal": "54" * 32,
    "file_digest": "55" * 32,
    "known": losses.KnownEvent(61, UUID(int=62), 63, UUID(int=64)),
    "team_id": ENTRY.stream_team,
    "user_id": UUID(int=71),
    "teams": (UUID(int=72),),
    "permissions": (Permission.LEAKS_REPORT,),
    "session_of": UUID(int=73),
    "session_secret": "3a3b3c3d",
    "is_end_asked_for": True,
}
Told = Mapping[str, Any]
"""What a field comes to: columns, and under `note` the words that must stand there."""


def _in_note(words: Callable[[Any], str]) -> Callable[[Any], Told]:
    return lambda value: {"note": [words(value)]}


def _actor(by: Actor) -> Told:
    return asdict(by)


def _presentation(how: Presentation) -> Told:
    told = asdict(how) | {"note": [] if how.note is None else [how.note]}
    return {name: told[name] for name in told if name != "form"}


def _secret(digits: str) -> Told:
    return {"secret": digits}


def _name_of(digest: Digest) -> Told:
    return _secret(digest.value[:4].hex())


def _not(_: object) -> Told:
    return {}


EVERYWHERE: Final[Mapping[str, Callable[[Any], Told]]] = {
    "reason": lambda reason: {"reason": reason},
    "presentation": _presentation,
    "count": lambda count: {"count": count},
    "secret": _secret,
    "cause": lambda cause: {"cause": cause},
    "source": lambda source: {"source": source},
    "door": lambda door: {"door": door},
    "name": lambda name: {"name": name},
    "setup_link": _in_note(lambda link: f"link {link}"),
    "networks": _in_note(", ".join),
    "permission": _in_note(lambda permission: f"lacks {permission}"),
    "days": _in_note(lambda days: f"within {days} days"),
    "day": _in_note(lambda day: f"{day} days after"),
    **dict.fromkeys(("ends_at", "since", "used_at", "expires_at"), _in_note(rfc3339)),
    # Who asks for those looks at the token, at the policy, or at what is under the key.
    **dict.fromkeys(("team_id", "first_at", "overlap_until", "minute", "key_generation"), _not),
}
OF_ONE: Final[Mapping[tuple[type[Event], str], Callable[[Any], Told]]] = {
    (scim_token.Created, "digest"): _name_of,
    (scim_token.Created, "expires_at"): lambda at: {"ends_at": rfc3339(at)},
    (scim_token.Rotated, "digest"): _name_of,
    (scim_token.Changed, "name"): lambda name: {"name": name, "note": [f"name {name}"]},
    (scim_token.Changed, "expires_at"): lambda at: {
        "ends_at": rfc3339(at),
        "note": [f"ends at {rfc3339(at)}"],
    },
    (scim_token.Rekeyed, "digest"): _in_note(lambda digest: f"under key {digest.key_generation}"),
    (scim_token.RotationFinished, "cause"): _in_note(lambda _: "the overlap is over"),
    (scim_token.Leaked, "url"): _in_note(str),
    (scim_token.Leaked, "source"): lambda source: {"reason": source},
    (scim_token.SetupLinkCreated, "digest"): _in_note(lambda digest: f"link {digest[:4].hex()}"),
    (warnings.FirstUsed, "source"): lambda at: {"source": at, "note": ["the first use"]},
    (warnings.UsedFromNewSource, "source"): lambda at: {"source": at, "note": ["this address"]},
    **{
        (api_token.Created, name): _not
        for name in ("user_id", "teams", "permissions", "digest", "expires_at", "session_secret")
    },
    (api_token.Created, "is_end_asked_for"): _not,
    (api_token.Created, "session_of"): _in_note(lambda _: "a session of the console"),
    (api_token.Rotated, "digest"): _not,
    (api_token.Rekeyed, "digest"): _in_note(lambda digest: f"under key {digest.key_generation}"),
    (keyring.Retired, "generation"): _in_note(lambda generation: f"key {generation}"),
    (losses.LossDeclared, "after"): _in_note(lambda after: f"events {after + 1} to"),
    (losses.LossDeclared, "until"): _in_note(str),
    (losses.LossDeclared, "known"): _not,
    (archive.Extended, "after"): _in_note(lambda after: f"events {after + 1} to"),
    (archive.Extended, "until"): _in_note(lambda until: f"to {until}"),
    (archive.Extended, "removed"): _in_note(lambda removed: f"{removed} left the ledger"),
    **{
        (archive.Extended, name): _not
        for name in ("before", "events", "uses", "seal", "file_digest")
    },
    (policy.Set, "rules"): _in_note(lambda _: "max_lifetime_days 43, max_live_tokens 44"),
}
VALUES_OF_ONE: Final[Mapping[tuple[type[Event], str], Any]] = {
    (scim_token.RotationFinished, "cause"): "over",
    (scim_token.SetupLinkCreated, "digest"): bytes([18]) * 32,
    # What was missing stands in its note.
    (api_token.Refused, "presentation"): replace(HOW, note=None),
}


OF_NONE: Final[Mapping[tuple[type[Event], str], Told]] = {
    (scim_token.Created, "expires_at"): {"ends_at": "infinity"},
    (scim_token.Changed, "expires_at"): {"ends_at": "infinity", "note": ["no end"]},
    (warnings.FirstUsed, "source"): {"note": ["the first use"]},
    (warnings.UsedFromNewSource, "source"): {"note": ["the first use of unknown address"]},
    (losses.LossDeclared, "after"): {"note": ["from where on is not known"]},
}
"""What is told of a field that is None; else nothing is."""
REFUSED: Final = frozenset({"scim_token.refused", "api_token.refused", "refusal_tally.counted"})
ITS_HOLDERS: Final = frozenset({api_token.Used, api_token.Refused})


def value_of(event: type[Event], name: str) -> Any:
    return BY if name.endswith("_by") else VALUES_OF_ONE.get((event, name), VALUES.get(name))


def told_of(event: type[Event], name: str, value: Any) -> Told:
    if value is UNSET:
        return {}
    if value is None:
        return OF_NONE.get((event, name), {})
    place = _actor if name.endswith("_by") else OF_ONE.get((event, name)) or EVERYWHERE[name]
    return place(value)


def in_each_way(event: type[Event]) -> Iterator[Mapping[str, Any]]:
    """The fields of an event: each with its value, with None where it may be, and unset."""
    choices = []
    for field in fields(event):
        allowed = type_info(field.type)
        kinds = allowed.types if isinstance(allowed, UnionType) else ()
        values = [value_of(event, field.name)]
        values += [None] if any(isinstance(kind, NoneType) for kind in kinds) else []
        values += [UNSET] if field.default is UNSET else []
        choices.append([(field.name, value) for value in values])
    return map(dict, product(*choices))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.topic)
def test_each_field_is_told_in_its_place(event: type[Event]) -> None:
    aggregate = event.topic.partition(".")[0]
    entry = ENTRY._replace(topic=event.topic)
    for given in in_each_way(event):
        expected = dict.fromkeys(field.name for field in fields(AuditEvent)) | {
            "position": entry.position,
            "at": rfc3339(entry.at),
            "kind": kind_of(event.topic),
            "outcome": "refused" if kind_of(event.topic) in REFUSED else "success",
            "team_id": entry.stream_team if aggregate in {"scim_token", "policy"} else None,
            "token_id": entry.originator_id if aggregate.endswith("_token") else None,
            "use_id": entry.command_id,
            "count": 1,
        }
        if event in ITS_HOLDERS:
            expected |= {"user_id": entry.stream_team, "api_token_id": entry.originator_id}
        of_the_past, words = {"name": None, "ends_at": None}, list[str]()
        for name in sorted(given, key=lambda name: not name.endswith("_by")):
            told = dict(told_of(event, name, given[name]))
            words += told.pop("note", ())
            of_the_past |= {part: told.pop(part) for part in of_the_past.keys() & told}
            expected |= told
        row = row_of(entry, event(**given))
        fact = asdict(event_of(row))
        note = fact.pop("note")
        assert fact == {part: expected[part] for part in fact}, given
        assert {part: getattr(row, part) for part in of_the_past} == of_the_past, given
        assert bool(note) == bool(words), given
        assert [word for word in words if word not in (note or "")] == [], given


def test_each_event_is_among_them() -> None:
    assert {event.topic for event in EVENTS} == REGISTRY.topics
