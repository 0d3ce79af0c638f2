"""The registry of events: what was ever stored stays readable, and nothing else is read."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import pytest

from domain import policy
from domain.api_token import events as api_token
from domain.api_token.permissions import Permission
from domain.archive import extended as archive
from domain.event import Actor, Event
from domain.eventstore.event_registry import REGISTRY, EventRegistry, UnreadableEvent, Upcaster
from domain.keyring import retirement as keyring
from domain.losses import declared as losses
from domain.refusals import tally as refusal_tally
from domain.scim_token import events as scim_token
from domain.scim_token import warnings
from domain.secret import Digest, SecretId
from tests.domain.scenario import T0, T1, T2, TEAM_ID

GOLDEN = Path(__file__).parents[2] / "golden"
"""Stored bytes of each version of each event, `<topic>.json` or `<topic>.<variant>.json`. Never
edited: a test that fails here says that the ledger of every deployment has become unreadable."""

USER, CALLER = UUID(int=1), Actor(user_id=UUID(int=1), api_token_id=UUID(int=2))
OPERATOR = Actor(user_id=None, api_token_id=None)
NAMED_OPERATOR = Actor(user_id=USER, api_token_id=None, operator="root@db1")
TOLD_CALLER = Actor(
    user_id=USER, api_token_id=UUID(int=2), source="2001:db8::1", user_agent="curl/8.5.0 (José)"
)
DIGEST = Digest(bytes(range(32)), 2)
PRESENTATION = scim_token.Presentation(
    door="scim",
    form="bare",
    source="2001:db8::1",
    user_agent="Okta SCIM Client 1.0.0",
    method="PATCH",
    path_class="Users/{id}",
    note="other dialect's headers ignored",
)

MEANT: dict[str, Event] = {
    "scim_token.created.v1": scim_token.Created(
        team_id=TEAM_ID,
        name='Okta "プロビジョニング" 👩🏽‍💻',
        created_by=CALLER,
        digest=DIGEST,
        expires_at=T2,
    ),
    "scim_token.created.v1.minimal": scim_token.Created(
        team_id=TEAM_ID, name="x", created_by=CALLER, digest=DIGEST, expires_at=None
    ),
    "scim_token.used.v1": scim_token.Used(count=17, first_at=T1, presentation=PRESENTATION),
    "scim_token.used.v1.minimal": scim_token.Used(
        count=1, first_at=T0, presentation=scim_token.Presentation(door="nginx")
    ),
    "scim_token.refused.v1": scim_token.Refused(reason="expired", presentation=PRESENTATION),
    "scim_token.rotated.v1": scim_token.Rotated(rotated_by=CALLER, digest=DIGEST, overlap_until=T2),
    "scim_token.changed.v1": scim_token.Changed(
        changed_by=CALLER, name="Entra", expires_at=T2, reason="moved"
    ),
    "scim_token.changed.v1.no_end": scim_token.Changed(changed_by=CALLER, expires_at=None),
    "scim_token.changed.v1.minimal": scim_token.Changed(changed_by=OPERATOR, name="Entra"),
    "scim_token.rotated.v1.by_link": scim_token.Rotated(
        rotated_by=msgspec.structs.replace(TOLD_CALLER, user_id=None, api_token_id=None),
        digest=DIGEST,
        overlap_until=T2,
        setup_link="00010203",
    ),
    "scim_token.setup_link_created.v1": scim_token.SetupLinkCreated(
        created_by=TOLD_CALLER, digest=DIGEST.value, ends_at=T2, reason="for their IT"
    ),
    "scim_token.setup_link_created.v1.newer_key": scim_token.SetupLinkCreated(
        created_by=CALLER, digest=DIGEST.value, ends_at=T2, key_generation=2
    ),
    "scim_token.setup_link_created.v1.minimal": scim_token.SetupLinkCreated(
        created_by=OPERATOR, digest=DIGEST.value, ends_at=T2
    ),
    "scim_token.setup_link_ended.v1": scim_token.SetupLinkEnded(
        ended_by=CALLER, setup_link="00010203", reason="sent to the wrong person"
    ),
    "scim_token.setup_link_ended.v1.minimal": scim_token.SetupLinkEnded(
        ended_by=OPERATOR, setup_link="00010203"
    ),
    "scim_token.suspended.v1": scim_token.Suspended(suspended_by=CALLER, reason="under inquiry"),
    "scim_token.suspended.v1.minimal": scim_token.Suspended(suspended_by=OPERATOR),
    "scim_token.resumed.v1": scim_token.Resumed(resumed_by=CALLER, reason="it was us"),
    "scim_token.resumed.v1.minimal": scim_token.Resumed(resumed_by=OPERATOR),
    "scim_token.networks_set.v1": scim_token.NetworksSet(
        set_by=CALLER, networks=("192.0.2.0/24", "2001:db8::1/128"), reason="their addresses"
    ),
    "scim_token.networks_set.v1.minimal": scim_token.NetworksSet(set_by=OPERATOR, networks=()),
    "scim_token.rekeyed.v1": scim_token.Rekeyed(secret="00010203", digest=DIGEST),
    "scim_token.revoked.v1": scim_token.Revoked(revoked_by=CALLER, reason="left the company"),
    "scim_token.revoked.v1.minimal": scim_token.Revoked(revoked_by=None, reason=None),
    "scim_token.expiring.v1": warnings.Expiring(days=30, expires_at=T2),
    "scim_token.expired.v1": warnings.Expired(expires_at=T2),
    "scim_token.unused.v1": warnings.Unused(since=T0),
    "scim_token.first_used.v1": warnings.FirstUsed(source="2001:db8::1"),
    "scim_token.first_used.v1.unknown": warnings.FirstUsed(source=None),
    "scim_token.used_from_new_source.v1": warnings.UsedFromNewSource(source="192.0.2.1"),
    "scim_token.rotation_ending.v1": warnings.RotationEnding(secret="00010203", days=7, ends_at=T2),
    "scim_token.old_secret_still_used.v1": warnings.OldSecretStillUsed(
        secret="00010203", day=3, used_at=T1
    ),
    "scim_token.leaked.v1": scim_token.Leaked(
        reported_by=TOLD_CALLER,
        secret="00010203",
        url="https://github.com/octocat/Hello-World/blob/main/config.yml",
        source="github",
    ),
    "scim_token.leaked.v1.minimal": scim_token.Leaked(
        reported_by=OPERATOR,
        secret="00010203",
    ),
    "api_token.created.v1": api_token.Created(
        user_id=USER,
        teams=(TEAM_ID,),
        permissions=(
            Permission.SCIM_TOKENS_READ,
            Permission.SCIM_TOKENS_WRITE,
            Permission.AUDIT_READ,
            Permission.PROJECTIONS_MANAGE,
            Permission.API_TOKENS_MANAGE,
        ),
        digest=DIGEST,
        created_by=CALLER,
        expires_at=T2,
    ),
    "api_token.created.v1.minimal": api_token.Created(
        user_id=USER,
        teams=None,
        permissions=(Permission.AUDIT_READ,),
        digest=DIGEST,
        created_by=None,
        expires_at=None,
    ),
    "api_token.used.v1": api_token.Used(),
    "api_token.revoked.v1": api_token.Revoked(revoked_by=OPERATOR),
    "api_token.revoked.v1.minimal": api_token.Revoked(revoked_by=None),
    # What later releases tell besides; where there is nothing to tell, the bytes above are written
    # still.
    "scim_token.created.v1.told": scim_token.Created(
        team_id=TEAM_ID, name="x", created_by=TOLD_CALLER, digest=DIGEST, expires_at=None
    ),
    "scim_token.used.v1.secret": scim_token.Used(
        count=17, first_at=T1, presentation=PRESENTATION, secret="00010203"
    ),
    "scim_token.refused.v1.secret": scim_token.Refused(
        reason="expired", presentation=PRESENTATION, secret="00010203"
    ),
    "scim_token.revoked.v1.secret": scim_token.Revoked(
        revoked_by=None,
        reason=None,
        presentation=scim_token.Presentation(door="revoke", source="192.0.2.1"),
        secret="00010203",
    ),
    "scim_token.rotation_completed.v1": scim_token.RotationCompleted(
        completed_by=CALLER, secret="00010203", reason="it is in Okta now"
    ),
    "scim_token.rotation_completed.v1.minimal": scim_token.RotationCompleted(
        completed_by=CALLER, secret="00010203"
    ),
    "scim_token.rotation_cancelled.v1": scim_token.RotationCancelled(
        cancelled_by=CALLER, secret="00010203", reason="lost"
    ),
    "scim_token.rotation_cancelled.v1.minimal": scim_token.RotationCancelled(
        cancelled_by=CALLER, secret="00010203"
    ),
    "scim_token.rotation_finished.v1": scim_token.RotationFinished(
        secret="00010203", cause="silent"
    ),
    "scim_token.rotated.v1.operator": scim_token.Rotated(
        rotated_by=NAMED_OPERATOR, digest=DIGEST, overlap_until=T2
    ),
    "scim_token.created.v1.reason": scim_token.Created(
        team_id=TEAM_ID,
        name="x",
        created_by=CALLER,
        digest=DIGEST,
        expires_at=None,
        reason="new tenant",
    ),
    "scim_token.rotated.v1.reason": scim_token.Rotated(
        rotated_by=CALLER, digest=DIGEST, overlap_until=T2, reason="yearly"
    ),
    "scim_token.revoked.v1.cause": scim_token.Revoked(
        revoked_by=CALLER, reason="nobody used it", cause=UUID(int=3)
    ),
    "scim_token.revoked.v1.burnt": scim_token.Revoked(
        revoked_by=None,
        reason=None,
        presentation=scim_token.Presentation(door="revoke", source="192.0.2.1"),
    ),
    "api_token.used.v1.told": api_token.Used(
        presentation=scim_token.Presentation(
            door="api", source="192.0.2.1", path_class="scim-token/{id}"
        )
    ),
    "api_token.refused.v1": api_token.Refused(
        reason="permission",
        permission=Permission.SCIM_TOKENS_WRITE,
        presentation=scim_token.Presentation(
            door="api",
            source="192.0.2.1",
            user_agent="curl/8.5.0",
            method="POST",
            path_class="scim-token",
        ),
    ),
    "api_token.refused.v1.minimal": api_token.Refused(
        reason="revoked", permission=None, presentation=scim_token.Presentation(door="api")
    ),
    "api_token.created.v1.reason": api_token.Created(
        user_id=USER,
        teams=None,
        permissions=(Permission.AUDIT_READ,),
        digest=DIGEST,
        created_by=TOLD_CALLER,
        expires_at=None,
        reason="for the SIEM",
    ),
    "api_token.created.v1.session": api_token.Created(
        user_id=USER,
        teams=(TEAM_ID,),
        permissions=(Permission.SCIM_TOKENS_READ,),
        digest=DIGEST,
        created_by=TOLD_CALLER,
        expires_at=T2,
        session_of=UUID(int=2),
    ),
    "api_token.created.v1.session_secret": api_token.Created(
        user_id=USER,
        teams=None,
        permissions=(Permission.SCIM_TOKENS_READ,),
        digest=DIGEST,
        created_by=TOLD_CALLER,
        expires_at=T2,
        session_of=UUID(int=2),
        session_secret="00010203",
    ),
    "api_token.created.v1.asked": api_token.Created(
        user_id=USER,
        teams=None,
        permissions=(Permission.AUDIT_READ,),
        digest=DIGEST,
        created_by=TOLD_CALLER,
        expires_at=T2,
        is_end_asked_for=True,
    ),
    "api_token.rotated.v1": api_token.Rotated(rotated_by=CALLER, digest=DIGEST, overlap_until=T2),
    "api_token.rotated.v1.reason": api_token.Rotated(
        rotated_by=NAMED_OPERATOR, digest=DIGEST, overlap_until=T2, reason="the laptop was stolen"
    ),
    "api_token.rekeyed.v1": api_token.Rekeyed(secret="00010203", digest=DIGEST),
    "api_token.revoked.v1.reason": api_token.Revoked(
        revoked_by=TOLD_CALLER, reason="left the company"
    ),
    "api_token.revoked.v1.operator": api_token.Revoked(revoked_by=NAMED_OPERATOR),
    "policy.set.v1": policy.Set(
        team_id=TEAM_ID,
        rules=policy.Rules(max_lifetime_days=365, expiry_required=True, max_live_tokens=5),
        set_by=TOLD_CALLER,
    ),
    "policy.set.v1.minimal": policy.Set(team_id=None, rules=policy.Rules(), set_by=OPERATOR),
    "pepper.retired.v1": keyring.Retired(
        generation=1, retired_by=NAMED_OPERATOR, reason="the yearly rotation"
    ),
    "ledger.loss_declared.v1": losses.LossDeclared(
        after=120,
        until=150,
        known=losses.KnownEvent(150, UUID(int=3), 7, UUID(int=4)),
        declared_by=NAMED_OPERATOR,
        reason="the disk broke; the backup is of last night",
    ),
    "ledger.loss_declared.v1.minimal": losses.LossDeclared(
        after=None, until=150, known=None, declared_by=OPERATOR, reason="seen by the SIEM"
    ),
    "archive.extended.v1": archive.Extended(
        after=120,
        until=4_000,
        before=T1,
        events=3_880,
        removed=3_700,
        uses=9_001,
        seal="5e" * 32,
        file_digest="0f" * 32,
        archived_by=NAMED_OPERATOR,
    ),
    "refusal_tally.counted.v1": refusal_tally.Counted(
        reason="unknown", door="scim", minute=T0, count=17
    ),
}


def topic_of(stem: str) -> str:
    return ".".join(stem.split(".")[:3])


def golden_stems() -> set[str]:
    return {path.name.removesuffix(".json") for path in GOLDEN.iterdir()}


class TestGoldenBytes:
    def test_every_topic_has_golden_bytes_and_all_golden_bytes_have_a_topic(self) -> None:
        assert {topic_of(stem) for stem in golden_stems()} == REGISTRY.topics

    def test_every_golden_file_has_a_meaning_here(self) -> None:
        assert golden_stems() == MEANT.keys()

    @pytest.mark.parametrize("stem", MEANT)
    def test_golden_bytes_are_decoded_to_what_they_meant(self, stem: str) -> None:
        assert (
            REGISTRY.decode(topic_of(stem), (GOLDEN / f"{stem}.json").read_bytes()) == MEANT[stem]
        )

    @pytest.mark.parametrize("stem", MEANT)
    def test_current_events_are_encoded_to_their_golden_bytes(self, stem: str) -> None:
        event = MEANT[stem]
        assert event.topic == topic_of(stem)
        assert REGISTRY.encode(event) == (GOLDEN / f"{stem}.json").read_bytes()


USED = b'{"count":1,"first_at":"2021-08-10T10:00:00Z","presentation":{"door":"hunter2"}}'


def with_an_unknown_field(value: Any) -> Iterator[Any]:
    """The same, one of its parts with a field more; for each part."""
    if isinstance(value, list):
        for place, part in enumerate(value):
            for changed in with_an_unknown_field(part):
                yield [*value[:place], changed, *value[place + 1 :]]
    if isinstance(value, dict):
        yield value | {"unknown": 1}
        for name, part in value.items():
            for changed in with_an_unknown_field(part):
                yield value | {name: changed}


class TestStrictness:
    def test_the_bytes_that_are_spoilt_below_are_good(self) -> None:
        assert isinstance(REGISTRY.decode("scim_token.used.v1", USED), scim_token.Used)

    @pytest.mark.parametrize(
        "state",
        [
            USED.replace(b'"count"', b'"hunter2":1,"count"'),
            USED.replace(b'"door"', b'"hunter2":1,"door"'),
            USED.replace(b'"count":1,', b""),
            USED.replace(b'"door":"hunter2"', b""),
            USED.replace(b'"count":1', b'"count":"hunter2"'),
            USED.replace(b'"count":1', b'"count":1.5'),
            USED.replace(b'"count":1', b'"count":null'),
            USED.replace(b"2021-08-10T10:00:00Z", b"hunter2"),
            USED.replace(b"hunter2", b"hunter2\xff"),
            USED[:-1],
            USED + b"hunter2",
            b'["hunter2"]',
            b'"hunter2"',
            b"hunter2",
            b"",
        ],
    )
    def test_anything_but_the_bytes_of_its_version_is_unreadable_and_not_repeated(
        self, state: bytes
    ) -> None:
        with pytest.raises(UnreadableEvent) as caught:
            REGISTRY.decode("scim_token.used.v1", state)
        assert (
            str(caught.value)
            == "the stored state of a scim_token.used.v1 is not what its version holds"
        )

    @pytest.mark.parametrize("stem", MEANT)
    def test_any_part_with_an_unknown_field_is_unreadable(self, stem: str) -> None:
        """Of an event itself, and of the digest, the presentation or the signature in it."""
        golden = msgspec.json.decode((GOLDEN / f"{stem}.json").read_bytes())
        for changed in with_an_unknown_field(golden):
            with pytest.raises(UnreadableEvent):
                REGISTRY.decode(topic_of(stem), msgspec.json.encode(changed))

    def test_a_permission_of_another_release_is_unreadable(self) -> None:
        state = (GOLDEN / "api_token.created.v1.json").read_bytes()
        with pytest.raises(UnreadableEvent):
            REGISTRY.decode("api_token.created.v1", state.replace(b"audit:read", b"audit:hunter2"))

    @pytest.mark.parametrize("topic", ["scim_token.used.v2", "SCIM_TOKEN.USED.V1", "", "os:system"])
    def test_an_unknown_topic_is_unreadable(self, topic: str) -> None:
        with pytest.raises(UnreadableEvent) as caught:
            REGISTRY.decode(topic, USED)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("count", ['"3"', "3.0", "true", "null"])
    def test_a_value_of_another_type_is_unreadable(self, count: str) -> None:
        """E9: nothing is taken for what it could be turned into."""
        good = b'{"count":3,"first_at":"2021-08-10T10:00:00Z","presentation":{"door":"scim"}}'
        assert isinstance(REGISTRY.decode("scim_token.used.v1", good), scim_token.Used)
        with pytest.raises(UnreadableEvent):
            REGISTRY.decode("scim_token.used.v1", good.replace(b"3", count.encode(), 1))

    def test_what_a_topic_names_is_never_imported(self) -> None:
        assert "this" not in sys.modules
        for topic in ("this", "this:s", "this.s.v1"):
            with pytest.raises(UnreadableEvent):
                REGISTRY.decode(topic, b"{}")
        assert "this" not in sys.modules

    def test_an_event_that_is_not_registered_is_not_encoded(self) -> None:
        with pytest.raises(AssertionError, match="not in the registry"):
            REGISTRY.encode(RenamedV1(name="x"))


class RenamedV1(Event, frozen=True, forbid_unknown_fields=True):
    """What was stored once."""

    topic: ClassVar[str] = "test_token.renamed.v1"
    name: str


class RenamedV2(Event, frozen=True, forbid_unknown_fields=True):
    """What it is today."""

    topic: ClassVar[str] = "test_token.renamed.v2"
    names: tuple[str, ...]


class RenamedAgain(Event, frozen=True, forbid_unknown_fields=True):
    """A slip of the pen: a topic that is taken."""

    topic: ClassVar[str] = "test_token.renamed.v2"


def upcast(old: Event) -> Event:
    assert isinstance(old, RenamedV1)
    return RenamedV2(names=(old.name,))


class TestUpcasting:
    registry = EventRegistry([RenamedV2], [Upcaster(RenamedV1, upcast)])

    def test_old_bytes_are_read_as_the_newest_event(self) -> None:
        assert self.registry.decode("test_token.renamed.v1", b'{"name":"x"}') == RenamedV2(
            names=("x",)
        )

    def test_new_bytes_are_read_as_they_are(self) -> None:
        event = RenamedV2(names=("x", "y"))
        assert self.registry.decode(event.topic, self.registry.encode(event)) == event

    def test_old_bytes_are_read_as_strictly_as_new_ones(self) -> None:
        with pytest.raises(UnreadableEvent):
            self.registry.decode("test_token.renamed.v1", b'{"names":["x"]}')

    def test_both_topics_are_known(self) -> None:
        assert self.registry.topics == {"test_token.renamed.v1", "test_token.renamed.v2"}

    def test_an_old_event_is_not_stored_any_more(self) -> None:
        with pytest.raises(AssertionError, match="no longer current"):
            self.registry.encode(RenamedV1(name="x"))

    @pytest.mark.parametrize(
        ("events", "upcasters"),
        [
            ([RenamedV2, RenamedAgain], []),
            ([RenamedV2, RenamedV2], []),
            ([RenamedV2], [Upcaster(RenamedAgain, upcast)]),
        ],
    )
    def test_two_events_under_one_topic_are_refused(
        self, events: list[type[Event]], upcasters: list[Upcaster]
    ) -> None:
        with pytest.raises(AssertionError, match="share a topic"):
            EventRegistry(events, upcasters)


def test_no_event_of_ours_has_a_field_that_could_hold_a_secret() -> None:
    for event in (*scim_token.EVENTS, *api_token.EVENTS, *refusal_tally.EVENTS):
        names = {
            field.name
            for field in msgspec.structs.fields(event)
            if field.type
            not in {SecretId, SecretId | None}  # of eight characters: no secret is as short
        }
        assert not names & {"secret", "token", "authorization", "password", "headers", "body"}
