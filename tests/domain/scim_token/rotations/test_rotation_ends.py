"""How a rotation ends: completed, cancelled, finished by itself, or with its overlap."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest

from domain.errors import InvalidValue, NoRotationUnderway, NotFound, RotationUnderway
from domain.event import SecretRow
from domain.scim_token import rotation
from domain.scim_token.events import (
    RotationCancelled,
    RotationCompleted,
    RotationFinished,
    ScimTokenEvent,
)
from domain.scim_token.rotation import SecretsInUse
from domain.scim_token.token import ScimToken
from tests.domain.scenario import (
    ADA,
    FIRST,
    MILLISECOND,
    MINUTE,
    SECOND,
    T1,
    T2,
    T3,
    T4,
    THIRD,
    Given,
    cancelled,
    changed,
    completed,
    created,
    finished,
    given,
    resumed,
    revoked,
    rotated,
    state_after,
    suspended,
)

HOUR = timedelta(hours=1)
OVERLAP = timedelta(hours=24)
AT_ONCE = timedelta(0)
Command = Callable[[ScimToken], Sequence[ScimTokenEvent]]


def complete(at: datetime = T2, reason: str | None = None, meant: str | None = None) -> Command:
    return lambda token: rotation.complete(
        token, completed_by=ADA, at=at, reason=reason, meant=meant
    )


def cancel(at: datetime = T2, reason: str | None = None, meant: str | None = None) -> Command:
    return lambda token: rotation.cancel(token, cancelled_by=ADA, at=at, reason=reason, meant=meant)


def finish(in_use: SecretsInUse, at: datetime = T4) -> Command:
    return lambda token: rotation.finish(token, in_use, at=at)


def rotate(at: datetime, overlap: timedelta = HOUR) -> Command:
    return lambda token: rotation.rotate(
        token, digest=THIRD, overlap=overlap, rotated_by=ADA, at=at
    )


ROTATING = (created(), rotated(T1))
IN_USE = SecretsInUse("02020202", None, T3, T3 + 45 * MINUTE)
"""The older secret was not used since the rotation; the newer one was when two hours of that were
over, for long enough.
"""

NOT_UNDERWAY: dict[str, tuple[Given, ...]] = {
    "never rotated": (created(),),
    "without an overlap": (created(), rotated(T1, overlap=AT_ONCE)),
    "over": (created(), rotated(T1, overlap=T2 - T1)),
    "expired": (created(expires_at=T2), rotated(T1)),
    "completed": (*ROTATING, completed(T2 - MINUTE)),
    "cancelled": (*ROTATING, cancelled(T2 - MINUTE)),
    "finished": (*ROTATING, finished(T2 - MINUTE)),
}


class TestComplete:
    @pytest.mark.parametrize("reason", [None, "it is in Okta now"])
    def test_the_older_secret_ends(self, reason: str | None) -> None:
        event = RotationCompleted(completed_by=ADA, secret="01010101", reason=reason)
        given(*ROTATING).when(complete(reason=reason)).records(event)
        token = state_after(*ROTATING, (event, T2))
        assert token.secret_rows() == [
            SecretRow(FIRST.value, T2, is_void=False),
            SecretRow(SECOND.value, None, is_void=False),
        ]
        assert (token.updated_at, token.rotated_at) == (T2, T1)

    @pytest.mark.parametrize("past", NOT_UNDERWAY.values(), ids=NOT_UNDERWAY)
    def test_where_no_rotation_is_under_way_it_is_refused(self, past: tuple[Given, ...]) -> None:
        given(*past).when(complete(T2)).refuses(NoRotationUnderway)

    def test_until_the_last_millisecond_of_the_overlap(self) -> None:
        past = created(), rotated(T1, overlap=T2 + MILLISECOND - T1)
        given(*past).when(complete(T2)).records(
            RotationCompleted(completed_by=ADA, secret="01010101")
        )

    def test_of_a_revoked_token_nothing_is_known(self) -> None:
        given(*ROTATING, revoked(T1 + MINUTE)).when(complete()).refuses(NotFound)

    def test_a_reason_is_text(self) -> None:
        given(*ROTATING).when(complete(reason="")).refuses(InvalidValue, pointer="/reason")


@pytest.mark.parametrize("meant", [None, "01010101", "02020202", "03030303", ""])
def test_nothing_ends_that_was_not_meant(meant: str | None) -> None:
    """Whoever names a secret has seen a rotation that may be over, and another one under way."""
    completing = given(*ROTATING).when(complete(meant=meant))
    cancelling = given(*ROTATING).when(cancel(meant=meant))
    if meant in {None, "01010101"}:
        completing.records(RotationCompleted(completed_by=ADA, secret="01010101"))
    else:
        completing.refuses(InvalidValue, pointer="")
    if meant in {None, "02020202"}:
        cancelling.records(RotationCancelled(cancelled_by=ADA, secret="02020202"))
    else:
        cancelling.refuses(InvalidValue, pointer="")


class TestCancel:
    @pytest.mark.parametrize("reason", [None, "lost"])
    def test_the_newer_secret_ends_and_the_older_one_goes_on(self, reason: str | None) -> None:
        event = RotationCancelled(cancelled_by=ADA, secret="02020202", reason=reason)
        given(*ROTATING).when(cancel(reason=reason)).records(event)
        token = state_after(*ROTATING, (event, T2))
        assert token.secret_rows() == [
            SecretRow(FIRST.value, None, is_void=False),
            SecretRow(SECOND.value, T2, is_void=False),
        ]
        assert (token.updated_at, token.rotated_at) == (T2, T1)

    def test_the_token_ends_when_it_would_have(self) -> None:
        token = state_after(created(expires_at=T4), rotated(T1), cancelled(T2))
        assert token.secret_rows()[0] == SecretRow(FIRST.value, T4, is_void=False)

    @pytest.mark.parametrize("past", NOT_UNDERWAY.values(), ids=NOT_UNDERWAY)
    def test_where_no_rotation_is_under_way_it_is_refused(self, past: tuple[Given, ...]) -> None:
        given(*past).when(cancel(T2)).refuses(NoRotationUnderway)

    def test_of_a_revoked_token_nothing_is_known(self) -> None:
        given(*ROTATING, revoked(T1 + MINUTE)).when(cancel()).refuses(NotFound)

    def test_what_ended_before_the_rotation_stays_over(self) -> None:
        past = created(), rotated(T1, overlap=HOUR), rotated(T3, digest=THIRD)
        token = state_after(*past, cancelled(T4, digest=THIRD))
        assert token.secret_rows() == [
            SecretRow(SECOND.value, None, is_void=False),
            SecretRow(THIRD.value, T4, is_void=False),
        ]


class TestFinish:
    def test_it_finishes_when_the_newer_is_in_use_and_the_older_is_silent(self) -> None:
        given(*ROTATING).when(finish(IN_USE, T4)).records(
            RotationFinished(secret="01010101", cause="silent")
        )
        token = state_after(*ROTATING, finished(T4))
        assert token.secret_rows()[0] == SecretRow(FIRST.value, T4, is_void=False)
        assert token.updated_at == T1, "nobody changed it"

    @pytest.mark.parametrize(
        "in_use",
        [
            SecretsInUse("02020202", None, T3 - MILLISECOND, T4),  # after less than two hours
            SecretsInUse("02020202", None, None, None),
            SecretsInUse("02020202", None, None, T3),
            SecretsInUse("02020202", None, T3, T3),  # used once
            SecretsInUse("02020202", None, T3, T3 + 45 * MINUTE - MILLISECOND),
            SecretsInUse("02020202", T1 + MILLISECOND, T3, T4),
            SecretsInUse("03030303", None, T3, T4),  # of another rotation
        ],
    )
    def test_not_before_it_is_sure(self, in_use: SecretsInUse) -> None:
        given(*ROTATING).when(finish(in_use, T4 + HOUR)).stays_silent()

    def test_silence_begins_with_the_last_use(self) -> None:
        at = T4 + 45 * MINUTE
        too_soon = SecretsInUse("02020202", T2, T4 - MILLISECOND, at)
        given(*ROTATING).when(finish(too_soon, at)).stays_silent()
        in_use = SecretsInUse("02020202", T2, T4, at)
        given(*ROTATING).when(finish(in_use, at)).records(finished()[0])

    def test_a_client_that_is_refused_is_not_silent(self) -> None:
        at = T4 + 45 * MINUTE
        too_soon = SecretsInUse("02020202", T1, T4, at, T2 + MILLISECOND)
        given(*ROTATING).when(finish(too_soon, at)).stays_silent()
        in_use = SecretsInUse("02020202", T1, T4, at, T2)
        given(*ROTATING).when(finish(in_use, at)).records(finished()[0])

    @pytest.mark.parametrize(
        "change",
        [(suspended(T2 - MINUTE), resumed(T2)), (changed(T2, name="Entra"),)],
        ids=["resumed", "renamed"],
    )
    def test_silence_begins_anew_with_a_change(self, change: tuple[Given, ...]) -> None:
        past, at = (*ROTATING, *change), T4 + 45 * MINUTE
        given(*past).when(finish(IN_USE, at)).stays_silent()
        in_use = SecretsInUse("02020202", None, T4, at)
        given(*past).when(finish(in_use, at)).records(finished()[0])

    def test_while_the_token_is_suspended_nothing_is_silence(self) -> None:
        """Whatever a view says."""
        past, later = (*ROTATING, suspended(T1)), SecretsInUse("02020202", None, T4, T4 + HOUR)
        given(*past).when(finish(later, T4 + HOUR)).stays_silent()
        given(*past).when(finish(IN_USE, T1 + OVERLAP)).records(finished(cause="over")[0])

    @pytest.mark.parametrize("past", [NOT_UNDERWAY["over"], NOT_UNDERWAY["expired"]])
    def test_that_its_overlap_is_over_is_told_once(self, past: tuple[Given, ...]) -> None:
        unused = SecretsInUse("02020202", None, None, None)
        given(*past).when(finish(unused, T2)).records(finished(cause="over")[0])
        given(*past, finished(T2, cause="over")).when(finish(unused, T3)).stays_silent()

    @pytest.mark.parametrize("name", ["never rotated", "without an overlap", "completed"])
    def test_where_no_rotation_is_under_way_it_is_silent(self, name: str) -> None:
        given(*NOT_UNDERWAY[name]).when(finish(IN_USE)).stays_silent()

    def test_of_a_revoked_token_it_is_silent(self) -> None:
        given(*ROTATING, revoked(T2)).when(finish(IN_USE)).stays_silent()


@pytest.mark.parametrize("end", [completed(T2), cancelled(T2), finished(T2)])
def test_after_its_end_the_next_rotation_may_begin(end: Given) -> None:
    given(*ROTATING).when(rotate(T3)).refuses(RotationUnderway)
    (event,) = rotate(T3)(state_after(*ROTATING, end))
    token = state_after(*ROTATING, end, (event, T3))
    good = {
        row.digest for row in token.secret_rows() if row.good_until is None or row.good_until > T3
    }
    older = SECOND if end != cancelled(T2) else FIRST
    assert good == {older.value, THIRD.value}
    assert len(token.secrets) <= 3


@pytest.mark.parametrize("overlap", [HOUR, AT_ONCE])
@pytest.mark.parametrize("suspension", [(), (suspended(T1 + MINUTE),)], ids=["good", "suspended"])
def test_the_next_rotation_tells_first_that_the_overlap_has_ended(
    overlap: timedelta, suspension: tuple[Given, ...]
) -> None:
    past = created(), rotated(T1, overlap=T2 - T1), *suspension
    over, rotated_again = finished(T2, cause="over"), rotated(T2, digest=THIRD, overlap=overlap)
    given(*past).when(rotate(T2, overlap)).records(over[0], rotated_again[0])
    given(*past, over).when(rotate(T2, overlap)).records(rotated_again[0])


@pytest.mark.parametrize("end", [completed(T2), cancelled(T2), finished(T2)])
def test_of_a_rotation_that_was_ended_it_tells_nothing_more(end: Given) -> None:
    given(*ROTATING, end).when(rotate(T1 + OVERLAP)).records(
        rotated(T1 + OVERLAP, digest=THIRD, overlap=HOUR)[0]
    )


def test_what_a_rotation_ends_itself_has_not_ended_by_itself() -> None:
    given(*ROTATING).when(rotate(T2, AT_ONCE)).records(
        rotated(T2, digest=THIRD, overlap=AT_ONCE)[0]
    )
