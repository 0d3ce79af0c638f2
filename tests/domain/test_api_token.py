"""The rules of an API token, command by command: it records, it refuses, it stays silent."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import reduce
from uuid import UUID

import pytest

from domain.api_token.events import ApiTokenEvent, Created, Refused, Revoked, Used
from domain.api_token.permissions import Permission
from domain.api_token.token import USE_EVERY, ApiToken, evolve
from domain.errors import InvalidValue, NotFound, PermissionDenied, Unauthenticated
from domain.event import Actor, Recorded, SecretRow
from domain.scim_token.events import Presentation
from domain.scim_token.token import REFUSAL_EVERY
from tests.domain import scenario
from tests.domain.scenario import ADA, COMMAND_ID, FIRST, MILLISECOND, T0, T1, T2, TEAM_ID, TOKEN_ID

USER_ID = UUID(int=11)
CALL = Presentation("api", source="192.0.2.1", method="POST", path_class="scim-token")
READ, WRITE = Permission.SCIM_TOKENS_READ, Permission.SCIM_TOKENS_WRITE


def create(
    *,
    teams: Sequence[UUID] | None = None,
    permissions: Sequence[Permission] | None = (READ,),
    expires_at: datetime | None = None,
    reason: str | None = None,
) -> list[ApiTokenEvent]:
    return ApiToken.create(
        user_id=USER_ID,
        teams=teams,
        permissions=permissions,
        digest=FIRST,
        created_by=None,
        expires_at=expires_at,
        at=T0,
        reason=reason,
    )


def state_after(*events: tuple[ApiTokenEvent, datetime]) -> ApiToken:
    places = enumerate(events, start=1)
    token = reduce(
        evolve,
        (Recorded(TOKEN_ID, version, at, COMMAND_ID, event) for version, (event, at) in places),
        None,
    )
    assert token is not None
    return token


def created(
    *,
    teams: Sequence[UUID] | None = None,
    permissions: Sequence[Permission] = (READ,),
    expires_at: datetime | None = None,
) -> tuple[ApiTokenEvent, datetime]:
    (event,) = create(teams=teams, permissions=permissions, expires_at=expires_at)
    return event, T0


REASONS = ["", " ", "a\nb", "r" * 201]
"""Against the rules."""
REVOKED = (Revoked(revoked_by=ADA), T1)


class TestCreate:
    def test_an_api_token_is_created_for_a_user(self) -> None:
        assert create(teams=[TEAM_ID], permissions=[READ, WRITE], expires_at=T1) == [
            Created(
                user_id=USER_ID,
                teams=(TEAM_ID,),
                permissions=(READ, WRITE),
                digest=FIRST,
                created_by=None,
                expires_at=T1,
                is_end_asked_for=True,
            )
        ]

    def test_what_is_named_twice_is_recorded_once(self) -> None:
        (event,) = create(teams=[TEAM_ID, TEAM_ID], permissions=[WRITE, READ, WRITE])
        assert isinstance(event, Created)
        assert (event.teams, event.permissions) == ((TEAM_ID,), (WRITE, READ))

    def test_a_token_without_a_permission_is_refused(self) -> None:
        with pytest.raises(InvalidValue) as caught:
            create(permissions=[])
        assert caught.value.pointer == "/permissions"

    def test_unasked_a_token_of_every_team_has_every_permission(self) -> None:
        (event,) = create(permissions=None)
        assert isinstance(event, Created)
        assert event.permissions == tuple(Permission)

    def test_unasked_a_token_of_some_teams_has_nothing_that_is_about_no_team(self) -> None:
        """A19: named one by one, so that a new permission is looked at here."""
        (event,) = create(teams=[TEAM_ID], permissions=None)
        assert isinstance(event, Created)
        assert event.permissions == (READ, WRITE, Permission.AUDIT_READ)

    def test_asked_for_a_token_of_some_teams_has_it(self) -> None:
        (event,) = create(teams=[TEAM_ID], permissions=[Permission.PROJECTIONS_MANAGE])
        assert isinstance(event, Created)
        assert event.permissions == (Permission.PROJECTIONS_MANAGE,)

    def test_an_empty_list_of_teams_is_refused(self) -> None:
        with pytest.raises(InvalidValue) as caught:
            create(teams=[])
        assert caught.value.pointer == "/teams"

    @pytest.mark.parametrize("reason", REASONS)
    def test_a_reason_against_the_rules_is_refused(self, reason: str) -> None:
        with pytest.raises(InvalidValue) as caught:
            create(reason=reason)
        assert caught.value.pointer == "/reason"

    def test_an_end_is_kept_in_utc_and_whole_milliseconds(self) -> None:
        asked = (T1 + timedelta(microseconds=1999)).astimezone(timezone(timedelta(hours=2)))
        (event,) = create(expires_at=asked)
        assert isinstance(event, Created)
        assert event.expires_at == T1 + MILLISECOND
        assert event.expires_at.tzinfo is UTC

    def test_an_end_that_not_every_time_zone_has_is_refused(self) -> None:
        with pytest.raises(InvalidValue) as caught:
            create(expires_at=datetime(9999, 1, 1, tzinfo=UTC))
        assert caught.value.pointer == "/expires_at"

    @pytest.mark.parametrize("expires_at", [T0, T0 - MILLISECOND])
    def test_an_expiry_that_is_not_in_the_future_is_refused(self, expires_at: datetime) -> None:
        with pytest.raises(InvalidValue) as caught:
            create(expires_at=expires_at)
        assert caught.value.pointer == "/expires_at"


class TestAuthorise:
    def test_a_good_token_with_the_permission_is_let_through_and_signs_as_its_user(self) -> None:
        token = state_after(created(permissions=[READ, WRITE]))
        token.authorise(WRITE, at=T1)
        assert token.actor == Actor(user_id=USER_ID, api_token_id=TOKEN_ID)

    def test_a_missing_permission_is_named(self) -> None:
        with pytest.raises(PermissionDenied) as caught:
            state_after(created(permissions=[READ])).authorise(WRITE, at=T1)
        assert caught.value.permission == "scim_tokens:write"

    def test_a_token_is_good_until_the_millisecond_before_it_expires(self) -> None:
        state_after(created(expires_at=T1)).authorise(READ, at=T1 - MILLISECOND)

    def test_a_token_is_over_exactly_at_its_expiry(self) -> None:
        with pytest.raises(Unauthenticated):
            state_after(created(expires_at=T1)).authorise(READ, at=T1)

    def test_a_revoked_token_is_unauthenticated_whatever_it_lacks(self) -> None:
        with pytest.raises(Unauthenticated):
            state_after(created(permissions=[READ]), REVOKED).authorise(WRITE, at=T2)

    def test_a_token_for_every_team_may_touch_any(self) -> None:
        state_after(created()).require_team(TEAM_ID)

    def test_a_token_may_touch_the_teams_it_names(self) -> None:
        state_after(created(teams=[TEAM_ID])).require_team(TEAM_ID)

    def test_a_foreign_team_looks_missing(self) -> None:
        with pytest.raises(NotFound):
            state_after(created(teams=[TEAM_ID])).require_team(UUID(int=3))


class TestUse:
    def test_how_it_was_used_is_recorded(self) -> None:
        assert state_after(created()).use(at=T1, presentation=CALL) == [Used(presentation=CALL)]

    def test_the_first_use_is_recorded(self) -> None:
        assert state_after(created()).use(at=T1) == [Used()]

    def test_a_use_within_a_minute_stays_silent(self) -> None:
        assert state_after(created(), (Used(), T1)).use(at=T1 + USE_EVERY - MILLISECOND) == []

    def test_a_use_after_exactly_a_minute_is_recorded(self) -> None:
        assert state_after(created(), (Used(), T1)).use(at=T1 + USE_EVERY) == [Used()]

    def test_uses_are_counted(self) -> None:
        token = state_after(created(), (Used(), T1), (Used(), T2))
        assert (token.uses, token.last_used_at) == (2, T2)

    def test_a_revoked_token_cannot_be_used(self) -> None:
        with pytest.raises(Unauthenticated):
            state_after(created(), REVOKED).use(at=T2)

    def test_an_expired_token_cannot_be_used(self) -> None:
        with pytest.raises(Unauthenticated):
            state_after(created(expires_at=T1)).use(at=T1)


class TestRefuse:
    def test_a_missing_permission_is_recorded_with_its_name(self) -> None:
        token = state_after(created(permissions=[READ]))
        assert refuse(token, WRITE, at=T1) == [Refused("permission", WRITE, CALL)]

    def test_a_token_that_is_over_is_recorded_with_why_whatever_it_lacks(self) -> None:
        for lacking in (None, WRITE):
            expired = state_after(created(expires_at=T1))
            assert refuse(expired, lacking, at=T1) == [Refused("expired", None, CALL)]
            revoked = state_after(created(expires_at=T1), REVOKED)
            assert refuse(revoked, lacking, at=T2) == [Refused("revoked", None, CALL)]

    @pytest.mark.parametrize("lacking", [None, READ])
    def test_what_is_not_refused_any_more_is_not_recorded(self, lacking: Permission | None) -> None:
        assert refuse(state_after(created(permissions=[READ])), lacking, at=T1) == []

    def test_a_second_refusal_within_a_minute_stays_silent_whatever_it_lacks(self) -> None:
        token = state_after(created(), (Refused("permission", WRITE, CALL), T1))
        silent_until = T1 + REFUSAL_EVERY
        for lacking in (WRITE, Permission.AUDIT_READ):
            assert refuse(token, lacking, at=silent_until - MILLISECOND) == []
            assert refuse(token, lacking, at=silent_until) == [Refused("permission", lacking, CALL)]

    def test_a_refusal_for_another_reason_is_recorded_at_once(self) -> None:
        token = state_after(created(), (Refused("permission", WRITE, CALL), T1), (Revoked(ADA), T1))
        assert refuse(token, WRITE, at=T1) == [Refused("revoked", None, CALL)]

    def test_a_refusal_is_no_use(self) -> None:
        token = state_after(created(), (Refused("permission", WRITE, CALL), T1))
        assert (token.uses, token.last_used_at, token.refused_at) == (0, None, T1)


def refuse(token: ApiToken, lacking: Permission | None, *, at: datetime) -> list[ApiTokenEvent]:
    return token.refuse(lacking=lacking, presentation=CALL, at=at)


class TestRevoke:
    def test_a_revocation_is_recorded(self) -> None:
        assert state_after(created()).revoke(by=ADA) == [Revoked(revoked_by=ADA)]

    def test_a_reason_is_recorded_with_it(self) -> None:
        assert state_after(created()).revoke(by=ADA, reason="left") == [Revoked(ADA, "left")]

    @pytest.mark.parametrize("reason", REASONS)
    def test_a_reason_against_the_rules_is_refused(self, reason: str) -> None:
        with pytest.raises(InvalidValue) as caught:
            state_after(created()).revoke(by=ADA, reason=reason)
        assert caught.value.pointer == "/reason"

    def test_a_second_revocation_stays_silent(self) -> None:
        assert state_after(created(), REVOKED).revoke(by=ADA) == []

    def test_a_revocation_voids_the_secret(self) -> None:
        assert state_after(created(expires_at=T2), REVOKED).secret_rows() == [
            SecretRow(FIRST.value, T2, is_void=True)
        ]


class TestEvolve:
    @pytest.mark.parametrize("version", [1, 3])
    def test_a_stream_with_a_hole_or_a_repetition_is_not_folded(self, version: int) -> None:
        with pytest.raises(AssertionError, match="dense"):
            evolve(state_after(created()), Recorded(TOKEN_ID, version, T1, COMMAND_ID, Used()))

    def test_a_stream_starts_with_created_once_and_at_its_first_version(self) -> None:
        event, at = created()
        with pytest.raises(AssertionError, match="starts with Created"):
            evolve(None, Recorded(TOKEN_ID, 1, at, COMMAND_ID, Used()))
        with pytest.raises(AssertionError, match="starts once"):
            state_after(created(), created())
        with pytest.raises(AssertionError, match="dense"):
            evolve(None, Recorded(TOKEN_ID, 2, at, COMMAND_ID, event))

    def test_an_event_of_another_aggregate_is_not_folded(self) -> None:
        foreign, at = scenario.used()
        with pytest.raises(AssertionError, match="is not folded"):
            evolve(state_after(created()), Recorded(TOKEN_ID, 2, at, COMMAND_ID, foreign))

    def test_an_api_token_speaks_for_no_team(self) -> None:
        assert state_after(created()).stream_team is None

    def test_a_lifetime_reaches_the_state(self) -> None:
        token = state_after(created(expires_at=T0 + timedelta(days=90)))
        assert token.expires_at == T0 + timedelta(days=90)
