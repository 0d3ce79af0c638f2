"""A leak is reported: which events follow, and what is answered."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import cast
from uuid import UUID

import pytest

from domain.api_token import events as api_token
from domain.api_token.permissions import Permission
from domain.api_token.token import ApiToken, evolve
from domain.event import Event, Recorded, States
from domain.leaks.holder import Holder
from domain.leaks.report import LeakAnswer, decide
from domain.scim_token.events import Leaked, Revoked, ScimTokenEvent
from domain.scim_token.leak import PLACES_MAX, Leak, leak
from domain.scim_token.token import ScimToken
from domain.secret import Digest, SecretKind, mint, secret_id
from tests.domain.scenario import (
    ADA,
    COMMAND_ID,
    FIRST,
    SECOND,
    T0,
    T1,
    T2,
    T3,
    TEAM_ID,
    TOKEN_ID,
    Given,
    created,
    given,
    revoked,
    rotated,
    state_after,
    suspended,
)

PUBLIC = Leak("https://example.com/a", "github")
FOUND = Leaked(ADA, secret_id(FIRST.value), PUBLIC.url, PUBLIC.source)
ENDED = Revoked(revoked_by=ADA, reason="leaked")


def leaked(at: datetime = T1, *, place: Leak = PUBLIC, digest: bytes = FIRST.value) -> Given:
    """A secret of it was found."""
    return Leaked(ADA, secret_id(digest), place.url, place.source), at


def report(
    place: Leak = PUBLIC,
    *,
    digest: bytes = FIRST.value,
    revokes: bool = True,
    at: datetime = T3,
) -> Callable[[ScimToken], Sequence[ScimTokenEvent]]:
    def command(token: ScimToken) -> Sequence[ScimTokenEvent]:
        events = Holder(token, (digest,)).report(place, by=ADA, revokes=revokes, at=at)
        assert all(isinstance(event, ScimTokenEvent) for event in events)
        return cast("Sequence[ScimTokenEvent]", events)

    return command


class TestRevoke:
    def test_a_live_token_is_marked_and_ends_in_one(self) -> None:
        given(created()).when(report()).records(FOUND, ENDED)

    def test_what_was_marked_before_ends_without_a_second_mark(self) -> None:
        given(created(), leaked()).when(report()).records(ENDED)

    def test_the_older_secret_of_a_rotation_that_lasts_ends_the_token(self) -> None:
        given(created(), rotated(T2)).when(report()).records(FOUND, ENDED)

    @pytest.mark.parametrize(
        "past",
        [
            [created(), revoked()],
            [created(expires_at=T2)],
            [created(), rotated(T1, overlap=timedelta(hours=1))],
            [created(), rotated(T1, overlap=timedelta(hours=1)), suspended(T1)],
            [created(expires_at=T2), suspended(T1)],
        ],
    )
    def test_what_is_over_stays_as_it_is(self, past: list[Given]) -> None:
        given(*past).when(report()).stays_silent()

    def test_a_suspended_token_ends(self) -> None:
        given(created(), suspended(T1)).when(report()).records(FOUND, ENDED)
        assert Holder(state_after(created(), suspended(T1)), (FIRST.value,)).state(at=T3) == (
            "suspended"
        )


class TestMark:
    def test_a_live_token_is_marked_and_goes_on(self) -> None:
        given(created()).when(report(revokes=False)).records(FOUND)
        token = state_after(created(), leaked())
        assert token.refusal(FIRST.value, at=T3) is None
        assert token.updated_at == T0

    def test_one_place_is_recorded_once(self) -> None:
        given(created(), leaked()).when(report(revokes=False)).stays_silent()

    def test_a_report_without_a_place_is_recorded_once(self) -> None:
        nowhere = Leak(None, "somebody")
        given(created(), leaked(place=nowhere)).when(report(nowhere, revokes=False)).stays_silent()

    def test_ten_places_of_a_secret_are_recorded_and_no_more(self) -> None:
        places = [Leak(f"https://example.com/{number}") for number in range(PLACES_MAX)]
        past = [created(), *(leaked(place=place) for place in places)]
        given(*past[:-1]).when(report(places[-1], revokes=False)).records(past[-1][0])
        given(*past).when(report(PUBLIC, revokes=False)).stays_silent()
        given(*past).when(report(PUBLIC)).records(ENDED)

    def test_each_secret_has_its_own_places(self) -> None:
        given(created(), leaked(), rotated(T2)).when(
            report(digest=SECOND.value, revokes=False)
        ).records(Leaked(ADA, secret_id(SECOND.value), PUBLIC.url, PUBLIC.source))
        given(created(), leaked(), rotated(T2)).when(report(revokes=False)).stays_silent()

    @pytest.mark.parametrize(("found", "other"), [(FIRST, SECOND), (SECOND, FIRST)])
    def test_what_is_found_of_one_of_two_secrets_is_not_found_of_the_other(
        self, found: Digest, other: Digest
    ) -> None:
        past = given(created(), rotated(T1), leaked(T2, digest=found.value))
        past.when(report(digest=found.value, revokes=False)).stays_silent()
        past.when(report(digest=other.value, revokes=False)).records(
            Leaked(ADA, secret_id(other.value), PUBLIC.url, PUBLIC.source)
        )


def api(*events: Event) -> ApiToken:
    made = ApiToken.create(
        user_id=TEAM_ID,
        teams=None,
        permissions=[Permission.API_TOKENS_MANAGE],
        digest=FIRST,
        created_by=ADA,
        expires_at=None,
        at=T0,
    )
    token: ApiToken | None = None
    for version, event in enumerate(chain(made, events), start=1):
        token = evolve(token, Recorded(TOKEN_ID, version, T0, COMMAND_ID, event))
    assert token is not None
    return token


@pytest.mark.parametrize("revokes", [True, False])
def test_an_api_token_always_ends(revokes: bool) -> None:
    token = api()
    events = Holder(token, (FIRST.value,)).report(PUBLIC, by=ADA, revokes=revokes, at=T3)
    assert events == [api_token.Revoked(revoked_by=ADA, reason="leaked")]
    ended = Holder(api(*events), (FIRST.value,))
    assert ended.state(at=T3) == "revoked"
    assert list(ended.report(PUBLIC, by=ADA, revokes=revokes, at=T3)) == []


def test_the_secret_that_an_api_token_had_before_a_rotation_ends_with_its_overlap() -> None:
    token = api(api_token.Rotated(rotated_by=ADA, digest=SECOND, overlap_until=T2))
    older = Holder(token, (FIRST.value,))
    assert (older.state(at=T1), older.state(at=T2)) == ("live", "expired")
    assert list(older.report(PUBLIC, by=ADA, revokes=True, at=T2)) == []
    assert Holder(token, (SECOND.value,)).state(at=T3) == "live"


def test_a_token_that_stands_twice_in_a_report_is_decided_in_turn() -> None:
    token = state_after(created())
    states = States({TOKEN_ID: token})
    holder, other = Holder(token, (FIRST.value,)), Leak("https://example.com/b")
    found = [(holder, PUBLIC), (holder, PUBLIC), (holder, other)]
    changes, answers = decide(found, states, actors={TOKEN_ID: ADA}, revokes=True, at=T3)
    assert [list(events) for _, events in changes] == [[FOUND, ENDED], [], []]
    assert [(each.state, each.action) for each in answers] == [
        ("live", "revoked"),
        ("revoked", "none"),
        ("revoked", "none"),
    ]
    changes, answers = decide(found, states, actors={TOKEN_ID: ADA}, revokes=False, at=T3)
    assert [len(events) for _, events in changes] == [1, 0, 1]
    assert answers == [
        LeakAnswer(TOKEN_ID, "live", action) for action in ("marked", "none", "marked")
    ]


@pytest.mark.parametrize("teams", [None, [TEAM_ID], [TOKEN_ID], []])
def test_only_who_may_touch_the_team_may_know(teams: list[UUID] | None) -> None:
    scim = Holder(state_after(created()), (FIRST.value,))
    assert scim.is_visible(teams) is (teams is None or TEAM_ID in teams)
    assert Holder(api(), (FIRST.value,)).is_visible(teams) is (teams is None)


SECRET = mint(SecretKind.SCIM_LIVE, bytes(range(32)), prefix="acme").reveal()


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://github.com/o/r/blob/1a2b/x.yml", "https://github.com/o/r/blob/1a2b/x.yml"),
        ("https://u:p@example.com:8443/x?token=y#z", "https://example.com:8443/x"),
        (f"https://example.com/{SECRET}/x", "https://example.com/acme_scim_live_***/x"),
        (f"https://example.com/?t={SECRET}", "https://example.com/"),
        ("file:///etc/x", "file:///etc/x"),
        ("no url at all", "no url at all"),
        ("http://[broken@host/x?y", "host/x"),
        ("https://example.com/\u202ea\x00b", "https://example.com/\ufffda\ufffdb"),
        ("x" * 1000, "x" * 300),
        ("", None),
        (None, None),
    ],
)
def test_of_a_url_only_the_place_is_kept(url: str | None, kept: str | None) -> None:
    assert leak(url, None).url == kept


def test_a_source_is_kept_without_secrets() -> None:
    assert (
        leak(None, f"scan of {SECRET} " + "x" * 200).source
        == ("scan of acme_scim_live_*** " + "x" * 200)[:100]
    )
