"""Who may make and end which API token: nobody grants more than they have."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.api_token.events import Created, Revoked, Rotated
from domain.api_token.permissions import Permission
from domain.api_token.token import ApiToken, evolve
from domain.authority import (
    ApiCall,
    Authority,
    Operator,
    SignedReport,
    api_token_ids,
    authorise,
    authorise_api_token,
    authorise_api_token_rotation,
    authorise_policy,
    authorise_scim_token,
    grant_api_token,
    require_another_manager,
    sees,
)
from domain.commands import NewApiToken
from domain.errors import (
    Confined,
    InvalidValue,
    LastManager,
    NotFound,
    PermissionDenied,
    Refusal,
    Unauthenticated,
)
from domain.event import Actor, Recorded, States
from domain.secret import Digest
from tests.domain.scenario import (
    COMMAND_ID,
    FIRST,
    SECOND,
    T0,
    T1,
    T2,
    TEAM_ID,
    TOKEN_ID,
    created,
    state_after,
)

MANAGE, READ = Permission.API_TOKENS_MANAGE, Permission.SCIM_TOKENS_READ
ME, OTHER = UUID(int=21), UUID(int=22)
FOREIGN: Final = UUID(int=3)
USER: Final = UUID(int=4)
Teams = tuple[UUID, ...] | None


def token(
    *permissions: Permission,
    id_: UUID = ME,
    teams: Teams = None,
    expires_at: datetime | None = None,
) -> ApiToken:
    made = Created(
        user_id=USER,
        teams=teams,
        permissions=permissions,
        digest=FIRST,
        created_by=None,
        expires_at=expires_at,
    )
    return evolve(None, Recorded(id_, 1, T0, COMMAND_ID, made))


def states_of(*tokens: ApiToken) -> States:
    return States({each.id: each for each in tokens})


def grant(
    *callers: ApiToken,
    permissions: Sequence[Permission] = (READ,),
    teams: Teams = None,
    by: Authority = ME,
) -> Created:
    ask = NewApiToken(FOREIGN, teams, tuple(permissions), None, T2, "for the SIEM")
    states = states_of(*callers)
    (made,) = grant_api_token(states, by, T1, ask=ask, digest=Digest(bytes(32), 1))
    assert isinstance(made, Created)
    return made


class TestGranting:
    def test_what_is_asked_for_is_recorded_with_who_made_it(self) -> None:
        call = ApiCall(ME, "192.0.2.1", "curl/8.5.0")
        assert grant(token(MANAGE, READ), teams=(TEAM_ID,), by=call) == Created(
            user_id=FOREIGN,
            teams=(TEAM_ID,),
            permissions=(READ,),
            digest=Digest(bytes(32), 1),
            created_by=Actor(USER, ME, source="192.0.2.1", user_agent="curl/8.5.0"),
            expires_at=T2,
            reason="for the SIEM",
            is_end_asked_for=True,
        )

    @pytest.mark.parametrize("lifetime", [None, T2 - T1])
    def test_an_end_that_is_reckoned_was_not_asked_for(self, lifetime: timedelta | None) -> None:
        ask = NewApiToken(FOREIGN, None, (READ,), lifetime)
        (made,) = grant_api_token(states_of(), Operator(), T1, ask=ask, digest=Digest(bytes(32), 1))
        assert isinstance(made, Created)
        assert made.expires_at == (None if lifetime is None else T2)
        assert not made.is_end_asked_for

    def test_the_operator_grants_whatever_there_is(self) -> None:
        made = grant(permissions=tuple(Permission), by=Operator(name="root@db1"))
        assert made.permissions == tuple(Permission)
        assert made.created_by == Actor(None, None, operator="root@db1")

    def test_whoever_may_not_manage_is_told_that_before_anything_else(self) -> None:
        with pytest.raises(PermissionDenied) as caught:
            grant(token(READ, teams=(TEAM_ID,)), permissions=(), teams=())
        assert caught.value.permission == MANAGE

    @pytest.mark.parametrize("callers", [(), (token(MANAGE, READ, expires_at=T1),)])
    def test_a_caller_that_is_unknown_or_over_is_unauthenticated(
        self, callers: tuple[ApiToken, ...]
    ) -> None:
        with pytest.raises(Unauthenticated):
            grant(*callers)

    def test_a_permission_that_the_caller_lacks_is_named(self) -> None:
        with pytest.raises(PermissionDenied) as caught:
            grant(token(MANAGE), permissions=(MANAGE, READ))
        assert caught.value.permission == READ

    def test_a_team_of_others_is_missing(self) -> None:
        with pytest.raises(NotFound):
            grant(token(MANAGE, READ, teams=(TEAM_ID,)), teams=(TEAM_ID, FOREIGN))

    def test_a_caller_for_some_teams_must_name_teams(self) -> None:
        with pytest.raises(InvalidValue) as caught:
            grant(token(MANAGE, READ, teams=(TEAM_ID,)))
        assert caught.value.pointer == "/teams"


class TestManaging:
    @pytest.mark.parametrize(
        ("own", "others"),
        [(None, None), (None, (TEAM_ID,)), ((TEAM_ID, FOREIGN), (TEAM_ID,))],
    )
    def test_a_token_within_the_callers_teams_is_managed(self, own: Teams, others: Teams) -> None:
        caller, other = token(MANAGE, teams=own), token(READ, id_=OTHER, teams=others)
        states = states_of(caller, other)
        assert authorise_api_token(states, ME, T1, token_id=OTHER) == (other, caller.actor)
        assert sees(caller, other)

    @pytest.mark.parametrize("others", [None, (FOREIGN,), (TEAM_ID, FOREIGN)])
    def test_a_token_with_any_other_team_looks_missing(self, others: Teams) -> None:
        caller, other = token(MANAGE, teams=(TEAM_ID,)), token(READ, id_=OTHER, teams=others)
        said = []
        for states in (states_of(caller, other), states_of(caller)):
            with pytest.raises(NotFound) as caught:
                authorise_api_token(states, ME, T1, token_id=OTHER)
            said.append(str(caught.value))
        assert said[0] == said[1]
        assert not sees(caller, other)

    def test_the_operator_manages_every_token(self) -> None:
        found, actor = authorise_api_token(
            states_of(token(READ)), Operator(USER, "root@db1"), T1, token_id=ME
        )
        assert (found.id, actor.operator) == (ME, "root@db1")


class TestRotating:
    def test_a_token_that_may_more_is_not_rotated_into_the_callers_hands(self) -> None:
        caller, other = token(MANAGE), token(MANAGE, READ, id_=OTHER)
        with pytest.raises(PermissionDenied) as caught:
            authorise_api_token_rotation(states_of(caller, other), ME, T1, token_id=OTHER)
        assert caught.value.permission == READ

    def test_a_call_with_a_secret_that_has_ended_gives_no_command(self) -> None:
        event = Rotated(Actor(None, None), SECOND, T1)
        caller = evolve(token(MANAGE), Recorded(ME, 2, T1, COMMAND_ID, event))
        old, new = ApiCall(ME, digests=[FIRST.value]), ApiCall(ME, digests=[SECOND.value])
        assert authorise_api_token(states_of(caller), new, T1, token_id=ME)[0] == caller
        with pytest.raises(Unauthenticated):
            authorise_api_token(states_of(caller), old, T1, token_id=ME)


class TestASession:
    @pytest.mark.parametrize("is_revoked", [False, True])
    def test_it_gives_no_command_once_the_token_that_signed_in_is_revoked(
        self, is_revoked: bool
    ) -> None:
        first = token(MANAGE, id_=OTHER)
        if is_revoked:
            first = evolve(first, Recorded(OTHER, 2, T1, COMMAND_ID, Revoked(None, None)))
        session = replace(token(MANAGE), session_of=OTHER)
        call = ApiCall(ME, session_of=OTHER)
        assert api_token_ids(call) == [ME, OTHER]
        if not is_revoked:
            assert (
                authorise_api_token(states_of(session, first), call, T1, token_id=ME)[0] == session
            )
            return
        with pytest.raises(Unauthenticated):
            authorise_api_token(states_of(session, first), call, T1, token_id=ME)


class TestTheLastManager:
    """At T1, without the token ME."""

    @pytest.mark.parametrize(
        ("last", "others"),
        [
            (token(MANAGE), ()),
            (token(MANAGE), (token(READ, id_=OTHER),)),
            (token(MANAGE), (token(MANAGE, id_=OTHER, expires_at=T1),)),
            (token(MANAGE), (token(MANAGE, id_=OTHER, teams=(TEAM_ID,)),)),
            (token(MANAGE, teams=(TEAM_ID,)), (token(MANAGE, id_=OTHER, teams=(FOREIGN,)),)),
        ],
        ids=["alone", "another may not", "another is over", "another is confined", "elsewhere"],
    )
    def test_it_is_refused(self, last: ApiToken, others: tuple[ApiToken, ...]) -> None:
        with pytest.raises(LastManager):
            require_another_manager(states_of(last, *others), last, T1)

    @pytest.mark.parametrize(
        ("not_last", "others"),
        [
            (token(READ), ()),
            (token(MANAGE, expires_at=T1), ()),
            (token(MANAGE), (token(MANAGE, id_=OTHER, expires_at=T2),)),
            (token(MANAGE, teams=(TEAM_ID,)), (token(MANAGE, id_=OTHER),)),
            (
                token(MANAGE, teams=(TEAM_ID,)),
                (token(MANAGE, id_=OTHER, teams=(FOREIGN, TEAM_ID)),),
            ),
        ],
        ids=["no manager", "over", "another", "another of all teams", "another of more teams"],
    )
    def test_any_other_is_not(self, not_last: ApiToken, others: tuple[ApiToken, ...]) -> None:
        require_another_manager(states_of(not_last, *others), not_last, T1)


some_permissions = st.lists(st.sampled_from(Permission), min_size=1, max_size=5, unique=True)
some_teams = st.none() | st.lists(
    st.sampled_from([UUID(int=each) for each in range(31, 35)]), min_size=1, unique=True
)


def reach(permissions: Sequence[Permission], teams: Sequence[UUID] | None) -> set[tuple[str, str]]:
    """All that a token may do, where: the plain model of what it has. "any" stands for a team that
    nobody named.
    """
    places = [str(team) for team in teams or ()] or ["any", *(str(UUID(int=n)) for n in range(40))]
    return {(permission, place) for permission in permissions for place in places}


@settings(max_examples=300)
@given(own=some_permissions, own_teams=some_teams, asked=some_permissions, teams=some_teams)
def test_nobody_grants_more_than_they_have(
    own: list[Permission],
    own_teams: list[UUID] | None,
    asked: list[Permission],
    teams: list[UUID] | None,
) -> None:
    caller = token(*own, teams=None if own_teams is None else tuple(own_teams))
    named = None if teams is None else tuple(teams)
    may = MANAGE in own and reach(asked, teams) <= reach(own, own_teams)
    try:
        made = grant(caller, permissions=asked, teams=named)
    except Refusal:
        assert not may
    else:
        assert may
        assert reach(made.permissions, made.teams) == reach(asked, teams)
    other = token(*asked, id_=OTHER, teams=named)
    try:
        found, _ = authorise_api_token_rotation(states_of(caller, other), ME, T1, token_id=OTHER)
    except Refusal:
        assert not may, "whoever rotates a token gets its secret"
    else:
        assert may
        assert found == other


def test_planted_a_model_that_forgot_teams_would_be_found() -> None:
    assert not reach([READ], None) <= reach([READ], [FOREIGN])
    assert reach([READ], [FOREIGN]) <= reach([READ], None)


CALL: Final = ApiCall(ME, source="192.0.2.1", user_agent="curl", digests=[FIRST.value])
CALLED: Final = Actor(USER, ME, "192.0.2.1", "curl")
SIGNED: Final[Mapping[Authority, Actor]] = {
    Operator(FOREIGN, "root@db1"): Actor(FOREIGN, None, operator="root@db1"),
    SignedReport("192.0.2.2", "GitHub"): Actor(None, None, "192.0.2.2", "GitHub"),
    ME: Actor(USER, ME),
    OTHER: Actor(None, None),
}
"""By whom a command may be given, besides `CALL`, and how it is signed then; of OTHER is nothing
known.
"""
WRITE, POLICIES = Permission.SCIM_TOKENS_WRITE, Permission.POLICIES_MANAGE


def expected(
    caller: ApiToken, by: Authority, permission: Permission, *, team_id: UUID | None
) -> Actor | type[Refusal]:
    """Who signs, or what is refused; of a policy above all teams, `Confined` besides."""
    if isinstance(by, Operator):
        return SIGNED[by]
    if isinstance(by, SignedReport):
        return SIGNED[by] if permission is Permission.LEAKS_REPORT else PermissionDenied
    if by == OTHER or caller.expires_at == T1 or caller.revoked_at is not None:
        return Unauthenticated
    if permission not in caller.permissions:
        return PermissionDenied
    if team_id is not None and caller.teams is not None and team_id not in caller.teams:
        return NotFound
    return CALLED if isinstance(by, ApiCall) else SIGNED[by]


def outcome(decide: Callable[[], Actor]) -> Actor | type[Refusal]:
    try:
        return decide()
    except Refusal as refused:
        return type(refused)


def changing(states: States, by: Authority, *, team_id: UUID | None) -> Actor:
    """Who signs a change of the SCIM token of a team; None where there is no such token."""
    scim_token = state_after(created())
    if team_id is not None:
        states[TOKEN_ID] = replace(scim_token, team_id=team_id)
    changed, actor = authorise_scim_token(states, by, T1, token_id=TOKEN_ID)
    assert changed == states[TOKEN_ID]
    return actor


@pytest.mark.parametrize("team_id", [None, TEAM_ID, FOREIGN])
@pytest.mark.parametrize("teams", [None, (TEAM_ID,)])
@pytest.mark.parametrize("permissions", [(), (WRITE,), (POLICIES,), tuple(Permission)])
def test_who_may_change_what_and_signs_it(
    permissions: tuple[Permission, ...], teams: Teams, team_id: UUID | None
) -> None:
    good = token(*permissions, teams=teams)
    for caller in (good, replace(good, expires_at=T1), replace(good, revoked_at=T0)):
        states = states_of(caller)
        for by in (*SIGNED, CALL):
            for asked in (WRITE, Permission.LEAKS_REPORT):
                found = outcome(
                    partial(authorise, states, by, T1, team_id=team_id, permission=asked)
                )
                assert found == expected(caller, by, asked, team_id=team_id), (by, asked)
            change = expected(caller, by, WRITE, team_id=team_id)
            changed = outcome(partial(changing, States(states), by, team_id=team_id))
            is_missing = isinstance(change, Actor) and team_id is None
            assert changed == (NotFound if is_missing else change), by
            found = outcome(partial(authorise_policy, states, by, T1, team_id=team_id))
            policy = expected(caller, by, POLICIES, team_id=team_id)
            if policy in {SIGNED[ME], CALLED} and team_id is None and teams is not None:
                policy = Confined
            assert found == policy, by
