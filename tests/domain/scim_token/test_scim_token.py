"""The rules of a SCIM token, command by command: it records, it refuses, it stays silent."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from domain.errors import (
    InvalidValue,
    NotFound,
    RotatedTooSoon,
    RotationUnderway,
    TokenExpired,
    TokenRevoked,
    TokenUnknown,
)
from domain.event import Actor, Recorded, SecretRow
from domain.scim_token import rotation
from domain.scim_token.events import Created, Refused, Revoked, Rotated, ScimTokenEvent, Used
from domain.scim_token.fold import evolve
from domain.scim_token.rotation import OVERLAP_MAX
from domain.scim_token.token import ScimToken
from domain.scim_token.values import EXPIRY_MAX, check_name
from domain.secret import Digest, secret_id
from tests.domain.scenario import (
    ADA,
    COMMAND_ID,
    FIRST,
    IDP,
    MILLISECOND,
    MINUTE,
    SECOND,
    T0,
    T1,
    T2,
    T3,
    T4,
    TEAM_ID,
    THIRD,
    TOKEN_ID,
    UNKNOWN,
    Given,
    created,
    finished,
    given,
    recorded,
    refused,
    revoked,
    rotated,
    state_after,
    used,
)


def create(
    name: str = "Okta provisioning", *, expires_at: datetime | None = None, by: Actor = ADA
) -> list[ScimTokenEvent]:
    return ScimToken.create(
        team_id=TEAM_ID, name=name, created_by=by, digest=FIRST, expires_at=expires_at, at=T0
    )


def use(
    digest: Digest = FIRST, *, at: datetime = T2
) -> Callable[[ScimToken], Sequence[ScimTokenEvent]]:
    return lambda token: token.use(digest.value, presentation=IDP, count=1, first_at=at, at=at)


def refuse(
    digest: Digest = FIRST, *, at: datetime = T2
) -> Callable[[ScimToken], Sequence[ScimTokenEvent]]:
    return lambda token: token.refuse(digest.value, presentation=IDP, at=at)


def rotate(
    overlap: timedelta = timedelta(hours=1), *, digest: Digest = SECOND, at: datetime = T2
) -> Callable[[ScimToken], Sequence[ScimTokenEvent]]:
    return lambda token: rotation.rotate(
        token, digest=digest, overlap=overlap, rotated_by=ADA, at=at
    )


def revoke(reason: str | None = None) -> Callable[[ScimToken], Sequence[ScimTokenEvent]]:
    return lambda token: token.revoke(by=ADA, reason=reason)


OVERRIDES = "must not hold bidirectional overrides"
UNSEEN = "must hold a character that can be seen"
SECONDS = timedelta(seconds=1)
FIRST_ID = secret_id(FIRST.value)


def accepted(digest: Digest = FIRST) -> Used:
    return Used(count=1, first_at=T2, presentation=IDP, secret=secret_id(digest.value))


class TestCreate:
    def test_a_token_is_created_for_a_team_by_a_user(self) -> None:
        assert create(expires_at=T1) == [
            Created(
                team_id=TEAM_ID,
                name="Okta provisioning",
                created_by=ADA,
                digest=FIRST,
                expires_at=T1,
            )
        ]

    @pytest.mark.parametrize(
        "name",
        [
            "a",
            "x" * 255,
            "😀" * 255,
            "  Okta  ",
            "إنتاج أوكتا",
            "שלום",
            "プロビジョニング",
            "👩🏽‍💻 team",
            "e\u0301 is not é",
            "'; DROP TABLE events; --",
            "\u200fright to left\u200f",
            "\u200d\u0646\u200c\u0627\u0645",
            "100 % {of} \\ it",
        ],
    )
    def test_a_name_of_any_script_is_kept_exactly_as_sent(self, name: str) -> None:
        (event,) = create(name)
        assert isinstance(event, Created)
        assert event.name == name
        assert state_after((event, T0)).name == name

    @pytest.mark.parametrize(
        ("name", "detail"),
        [
            ("", "must be 1 to 255 characters"),
            ("x" * 256, "must be 1 to 255 characters"),
            (" ", "must not be blank"),
            ("\u3000\u2003 ", "must not be blank"),
            ("\t\n", "must not be blank"),
            ("a\x00b", "must not hold control characters"),
            ("a\nb", "must not hold control characters"),
            ("a\x1b[31m", "must not hold control characters"),
            ("a\x7f", "must not hold control characters"),
            ("a\x85b", "must not hold control characters"),
            ("half \ud83d", "must not hold control characters"),
            ("\u202ekatO", OVERRIDES),
            ("Okta \u2067x\u2069", OVERRIDES),
            ("\u200b", UNSEEN),
            ("\u00ad\u3164\u2800", UNSEEN),
            ("\u0301", UNSEEN),
        ],
    )
    def test_a_name_that_is_no_name_is_refused_without_repeating_it(
        self, name: str, detail: str
    ) -> None:
        with pytest.raises(InvalidValue) as caught:
            check_name(name)
        assert (caught.value.pointer, caught.value.detail) == ("/name", detail)
        with pytest.raises(InvalidValue, match=r"^/name: "):
            create(name)

    def test_a_name_from_before_its_rule_is_folded_as_it_was(self) -> None:
        """A20: rules are for decisions; what is in the ledger stays readable."""
        (event,) = create("Okta")
        old = msgspec.structs.replace(event, name="\u202eatkO\u200b")
        assert state_after((old, T0)).name == "\u202eatkO\u200b"

    @pytest.mark.parametrize("expires_at", [T0, T0 - MILLISECOND])
    def test_an_expiry_that_is_not_in_the_future_is_refused(self, expires_at: datetime) -> None:
        with pytest.raises(InvalidValue) as caught:
            create(expires_at=expires_at)
        assert (caught.value.pointer, caught.value.detail) == (
            "/expires_at",
            "must be in the future",
        )

    def test_an_expiry_one_millisecond_ahead_is_accepted(self) -> None:
        assert len(create(expires_at=T0 + MILLISECOND)) == 1

    @pytest.mark.parametrize(
        "asked",
        [
            datetime(9999, 1, 1, tzinfo=UTC),
            datetime(9999, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
            datetime(9998, 12, 31, 23, tzinfo=timezone(-timedelta(hours=1))),
            datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        ],
    )
    def test_an_expiry_at_the_end_of_the_calendar_is_refused(self, asked: datetime) -> None:
        with pytest.raises(InvalidValue) as caught:
            create(expires_at=asked)
        detail = "must be before the year 9999; without it, there is no end"
        assert (caught.value.pointer, caught.value.detail) == ("/expires_at", detail)

    @pytest.mark.parametrize(
        ("asked", "kept"),
        [
            (T0 + timedelta(microseconds=1999), T0 + MILLISECOND),
            (EXPIRY_MAX - timedelta(microseconds=1), EXPIRY_MAX - MILLISECOND),
            (
                datetime(9999, 1, 1, 0, 59, 59, tzinfo=timezone(timedelta(hours=1))),
                EXPIRY_MAX - timedelta(seconds=1),
            ),
        ],
    )
    def test_an_expiry_at_its_very_bound_is_kept_in_whole_milliseconds_of_utc(
        self, asked: datetime, kept: datetime
    ) -> None:
        (event,) = create(expires_at=asked)
        assert isinstance(event, Created)
        assert event.expires_at == kept
        assert event.expires_at.tzinfo is UTC

    def test_an_expiry_less_than_a_millisecond_ahead_is_refused(self) -> None:
        with pytest.raises(InvalidValue):
            create(expires_at=T0 + timedelta(microseconds=999))

    def test_a_token_without_a_user_is_refused(self) -> None:
        with pytest.raises(InvalidValue) as caught:
            create(by=Actor(user_id=None, api_token_id=None))
        assert caught.value.pointer == "/created_by"

    def test_a_created_token_speaks_for_its_team_and_was_never_used(self) -> None:
        assert state_after(created(T0, expires_at=T4)) == ScimToken(
            id=TOKEN_ID,
            version=1,
            team_id=TEAM_ID,
            name="Okta",
            created_by=ADA.user_id or TOKEN_ID,
            created_at=T0,
            updated_at=T0,
            secrets=state_after(created()).secrets,
            expires_at=T4,
        )
        assert state_after(created()).stream_team == TEAM_ID


class TestUse:
    def test_a_use_is_recorded(self) -> None:
        given(created()).when(use()).records(accepted())

    def test_each_further_use_is_recorded_too(self) -> None:
        given(created(), used(T2)).when(use(at=T2)).records(accepted())

    def test_a_use_is_never_said_to_have_begun_after_it_was_recorded(self) -> None:
        given(created()).when(
            lambda token: token.use(FIRST.value, presentation=IDP, count=3, first_at=T3, at=T2)
        ).records(Used(count=3, first_at=T2, presentation=IDP, secret=FIRST_ID))

    def test_an_unknown_secret_is_refused(self) -> None:
        given(created()).when(use(UNKNOWN)).refuses(TokenUnknown, reason="unknown")

    def test_an_unknown_secret_of_a_revoked_token_is_unknown(self) -> None:
        given(created(), revoked()).when(use(UNKNOWN)).refuses(TokenUnknown)

    def test_a_revoked_token_cannot_be_used(self) -> None:
        given(created(), revoked(T1)).when(use(at=T2)).refuses(TokenRevoked, reason="revoked")

    def test_a_revoked_token_cannot_be_used_at_the_instant_of_its_revocation(self) -> None:
        given(created(), revoked(T1)).when(use(at=T1)).refuses(TokenRevoked)

    def test_a_token_can_be_used_until_the_millisecond_before_it_expires(self) -> None:
        given(created(expires_at=T2 + MILLISECOND)).when(use(at=T2)).records(accepted())

    @pytest.mark.parametrize("at", [T2, T2 + MILLISECOND])
    def test_a_token_cannot_be_used_from_its_expiry_on(self, at: datetime) -> None:
        given(created(expires_at=T2)).when(use(at=at)).refuses(TokenExpired, reason="expired")

    def test_a_revoked_token_stays_revoked_after_its_expiry(self) -> None:
        given(created(expires_at=T2), revoked(T1)).when(use(at=T3)).refuses(TokenRevoked)

    def test_uses_are_counted_and_do_not_update_the_token(self) -> None:
        token = state_after(created(T0), used(T1, count=3), used(T2))
        assert (token.uses, token.last_used_at, token.updated_at, token.version) == (4, T2, T0, 3)


class TestRefuse:
    @pytest.mark.parametrize(
        ("past", "reason"),
        [((created(), revoked()), "revoked"), ((created(expires_at=T2),), "expired")],
    )
    def test_a_secret_that_is_over_is_recorded_with_its_reason(
        self, past: tuple[tuple[ScimTokenEvent, datetime], ...], reason: str
    ) -> None:
        given(*past).when(refuse()).records(Refused(reason, IDP, FIRST_ID))

    def test_a_second_refusal_within_a_minute_stays_silent(self) -> None:
        given(created(), revoked(), refused(T2)).when(
            refuse(at=T2 + MINUTE - MILLISECOND)
        ).stays_silent()

    def test_a_second_refusal_after_exactly_a_minute_is_recorded(self) -> None:
        given(created(), revoked(), refused(T2)).when(refuse(at=T2 + MINUTE)).records(
            Refused("revoked", IDP, FIRST_ID)
        )

    def test_a_good_secret_is_not_recorded_as_refused(self) -> None:
        given(created()).when(refuse()).stays_silent()

    def test_a_refusal_does_not_count_as_a_use_or_an_update(self) -> None:
        token = state_after(created(T0), revoked(T1), refused(T2))
        assert (token.uses, token.last_used_at, token.updated_at) == (0, None, T1)


class TestRotate:
    @pytest.mark.parametrize("overlap", [timedelta(0), timedelta(hours=1), OVERLAP_MAX])
    def test_a_rotation_is_recorded_with_the_end_of_the_overlap(self, overlap: timedelta) -> None:
        given(created()).when(rotate(overlap)).records(
            Rotated(rotated_by=ADA, digest=SECOND, overlap_until=T2 + overlap)
        )

    @pytest.mark.parametrize("overlap", [-MILLISECOND, OVERLAP_MAX + MILLISECOND])
    def test_an_overlap_out_of_range_is_refused(self, overlap: timedelta) -> None:
        given(created()).when(rotate(overlap)).refuses(
            InvalidValue, pointer="/overlap_seconds", detail="must be 0 to 2592000"
        )

    def test_a_revoked_token_cannot_be_rotated(self) -> None:
        given(created(), revoked()).when(rotate()).refuses(NotFound)

    def test_an_expired_token_cannot_be_rotated(self) -> None:
        given(created(expires_at=T2)).when(rotate(at=T2)).refuses(InvalidValue, pointer="")

    def test_a_token_can_be_rotated_until_the_millisecond_before_it_expires(self) -> None:
        given(created(expires_at=T2 + MILLISECOND)).when(rotate(timedelta(0))).records(
            Rotated(rotated_by=ADA, digest=SECOND, overlap_until=T2)
        )

    @pytest.mark.parametrize("digest", [FIRST, SECOND])
    def test_both_secrets_are_good_during_the_overlap(self, digest: Digest) -> None:
        past = created(), rotated(T1, overlap=T2 + MILLISECOND - T1)
        given(*past).when(use(digest, at=T2)).records(accepted(digest))

    def test_the_older_secret_is_over_exactly_at_the_end_of_the_overlap(self) -> None:
        given(created(), rotated(T1, overlap=T2 - T1)).when(use(FIRST, at=T2)).refuses(TokenExpired)

    def test_the_newer_secret_goes_on_after_the_overlap(self) -> None:
        past = created(), rotated(T1, overlap=T2 - T1)
        given(*past).when(use(SECOND, at=T2)).records(accepted(SECOND))

    def test_without_an_overlap_the_older_secret_ends_at_once(self) -> None:
        given(created(), rotated(T2, overlap=timedelta(0))).when(use(FIRST, at=T2)).refuses(
            TokenExpired
        )

    def test_the_older_secret_still_ends_with_the_token(self) -> None:
        past = created(expires_at=T2), rotated(T1, overlap=OVERLAP_MAX)
        given(*past).when(use(FIRST, at=T2)).refuses(TokenExpired)
        given(*past).when(use(SECOND, at=T2)).refuses(TokenExpired)

    def test_a_second_rotation_ends_both_older_secrets_and_prolongs_neither(self) -> None:
        token = state_after(
            created(),
            rotated(T1, overlap=T3 - T1),
            rotated(T2, digest=THIRD, overlap=T4 - T2),
        )
        assert token.secret_rows() == [
            SecretRow(FIRST.value, T3, is_void=False),
            SecretRow(SECOND.value, T4, is_void=False),
            SecretRow(THIRD.value, None, is_void=False),
        ]

    def test_a_second_rotation_can_cut_an_overlap_short(self) -> None:
        token = state_after(
            created(),
            rotated(T1, overlap=T4 - T1),
            rotated(T2, digest=THIRD, overlap=timedelta(0)),
        )
        assert [row.good_until for row in token.secret_rows()] == [T2, T2, None]

    def test_a_third_good_secret_is_refused(self) -> None:
        """B11."""
        past = created(), rotated(T1, overlap=T2 + MILLISECOND - T1)
        given(*past).when(rotate(MILLISECOND, digest=THIRD)).refuses(RotationUnderway)

    @pytest.mark.parametrize("overlap", [timedelta(0), T2 + MILLISECOND - T1])
    def test_without_an_overlap_all_older_secrets_make_room(self, overlap: timedelta) -> None:
        past = created(), rotated(T1, overlap=overlap)
        given(*past).when(rotate(timedelta(0), digest=THIRD)).records(
            Rotated(rotated_by=ADA, digest=THIRD, overlap_until=T2)
        )

    def test_a_secret_makes_room_exactly_at_the_end_of_its_overlap(self) -> None:
        past = created(), rotated(T1, overlap=T2 - T1)
        given(*past).when(rotate(MILLISECOND, digest=THIRD)).records(
            finished(cause="over")[0],
            Rotated(rotated_by=ADA, digest=THIRD, overlap_until=T2 + MILLISECOND),
        )

    def test_a_token_is_rotated_once_in_ten_seconds_at_most(self) -> None:
        """B11."""
        past = created(), rotated(T2 - 10 * SECONDS + MILLISECOND, overlap=timedelta(0))
        given(*past).when(rotate(timedelta(0))).refuses(RotatedTooSoon, retry_after_s=1)
        past = created(), rotated(T2, overlap=timedelta(0))
        given(*past).when(rotate(timedelta(0))).refuses(RotatedTooSoon, retry_after_s=10)
        past = created(), rotated(T2 - 10 * SECONDS, overlap=timedelta(0))
        given(*past).when(rotate(timedelta(0), digest=THIRD)).records(
            Rotated(rotated_by=ADA, digest=THIRD, overlap_until=T2)
        )

    def test_what_the_rules_refuse_anyhow_comes_before_the_rate(self) -> None:
        given(created(), rotated(T2), revoked(T2)).when(rotate()).refuses(NotFound)
        given(created(), rotated(T2)).when(rotate(-MILLISECOND)).refuses(InvalidValue)

    def test_a_secret_that_was_over_is_let_go_by_the_next_rotation(self) -> None:
        """B11."""
        token = state_after(
            created(),
            rotated(T1, overlap=T2 - T1 - MILLISECOND),
            rotated(T2, digest=THIRD, overlap=T3 - T2),
        )
        assert token.secret_rows() == [
            SecretRow(SECOND.value, T3, is_void=False),
            SecretRow(THIRD.value, None, is_void=False),
        ]

    @pytest.mark.parametrize("end", [(), (revoked(T3),)])
    def test_a_secret_that_was_let_go_stays_over(self, end: tuple[Given, ...]) -> None:
        past = created(), rotated(T1, overlap=timedelta(0)), rotated(T2, digest=THIRD), *end
        given(*past).when(use(FIRST, at=T3)).refuses(TokenExpired)
        given(*past).when(lambda token: token.burn(FIRST.value, at=T3)).stays_silent()
        given(*past).when(lambda token: token.refuse(FIRST.value, presentation=IDP, at=T3)).records(
            Refused("expired", IDP, FIRST_ID)
        )

    def test_however_often_a_token_was_rotated_it_holds_three_secrets_at_most(self) -> None:
        """B11. Two that are good, and one that ended with the last rotation."""
        token = state_after(created())
        for number in range(1, 2000):
            digest = Digest(number.to_bytes(32, "big"), 1)
            at = T1 + 10 * number * SECONDS
            overlap = timedelta(0) if number % 3 else 10 * SECONDS
            for event in rotation.rotate(
                token, digest=digest, overlap=overlap, rotated_by=ADA, at=at
            ):
                token = evolve(token, Recorded(token.id, token.version + 1, at, COMMAND_ID, event))
            assert len(token.secrets) <= 3

    def test_a_rotation_updates_the_token(self) -> None:
        token = state_after(created(T0), rotated(T1))
        assert (token.updated_at, token.rotated_at) == (T1, T1)


class TestRevoke:
    @pytest.mark.parametrize("reason", [None, "x", "left the company", "x" * 200])
    def test_a_revocation_is_recorded(self, reason: str | None) -> None:
        given(created()).when(revoke(reason)).records(Revoked(revoked_by=ADA, reason=reason))

    def test_a_burn_names_nobody(self) -> None:
        given(created()).when(lambda token: token.revoke(by=None, reason=None)).records(
            Revoked(revoked_by=None, reason=None)
        )

    def test_a_second_revocation_stays_silent(self) -> None:
        given(created(), revoked()).when(revoke("again")).stays_silent()

    def test_an_expired_token_can_still_be_revoked(self) -> None:
        given(created(expires_at=T1)).when(revoke()).records(Revoked(revoked_by=ADA, reason=None))

    @pytest.mark.parametrize("reason", ["", "x" * 201])
    def test_a_reason_that_is_empty_or_too_long_is_refused(self, reason: str) -> None:
        given(created()).when(revoke(reason)).refuses(
            InvalidValue, pointer="/reason", detail="must be 1 to 200 characters"
        )

    @pytest.mark.parametrize("reason", ["a\x00b", "a\nforged log line", "half \ud83d"])
    def test_a_reason_with_control_characters_is_refused(self, reason: str) -> None:
        given(created()).when(revoke(reason)).refuses(
            InvalidValue, pointer="/reason", detail="must not hold control characters"
        )

    def test_a_revocation_voids_every_secret(self) -> None:
        token = state_after(created(), rotated(T1), revoked(T2))
        assert [row.is_void for row in token.secret_rows()] == [True, True]
        assert (token.updated_at, token.revoked_at) == (T2, T2)


class TestEvolve:
    @pytest.mark.parametrize("version", [1, 3])
    def test_a_stream_with_a_hole_or_a_repetition_is_not_folded(self, version: int) -> None:
        event, at = used()
        with pytest.raises(AssertionError, match="dense"):
            evolve(state_after(created()), Recorded(TOKEN_ID, version, at, COMMAND_ID, event))

    def test_a_stream_starts_with_created(self) -> None:
        with pytest.raises(AssertionError, match="starts with Created"):
            evolve(None, recorded([used()])[0])

    def test_a_stream_starts_at_its_first_version(self) -> None:
        event, at = created()
        with pytest.raises(AssertionError, match="dense"):
            evolve(None, Recorded(TOKEN_ID, 2, at, COMMAND_ID, event))

    def test_a_stream_starts_once(self) -> None:
        with pytest.raises(AssertionError, match="starts once"):
            state_after(created(), created())
