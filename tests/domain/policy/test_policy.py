"""The rules of a policy: it records, it refuses, it stays silent; and what it asks of a token."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidValue, PolicyViolated
from domain.event import Recorded, States
from domain.policy import (
    LIFETIME_MAX_DAYS,
    LIVE_TOKENS_MAX,
    NO_RULES,
    NotCounted,
    Policy,
    Rules,
    Set,
    evolve,
    in_words,
    judge_creation,
    judge_expiry,
    judge_resumption,
    longest_lives,
    policies_of,
    policy_id,
    rules_for,
    set_policy,
    strictest,
)
from tests.domain.scenario import ADA, COMMAND_ID, MILLISECOND, T0, T1, TEAM_ID

DAY = timedelta(days=1)
SOME = Rules(max_lifetime_days=90, expiry_required=True, max_live_tokens=3)
ENDS = "/expires_at"
TEAM_IS_FULL = ("/team_id", "the policy allows the team 3 live tokens, and it has them")


def policy_of(rules: Rules, team_id: UUID | None = TEAM_ID) -> Policy:
    event = Set(team_id=team_id, rules=rules, set_by=ADA)
    return evolve(None, Recorded(policy_id(team_id), 1, T0, COMMAND_ID, event))


def broken(
    rules: Rules, *, expires_at: datetime | None = None, live_tokens: int | None = 0
) -> list[tuple[str, str]]:
    try:
        judge_creation(rules, at=T0, expires_at=expires_at, live_tokens=live_tokens)
    except PolicyViolated as refusal:
        return list(refusal.violations)
    return []


def test_rules_are_set_and_replaced_as_a_whole() -> None:
    assert set_policy(None, team_id=TEAM_ID, rules=SOME, by=ADA) == [Set(TEAM_ID, SOME, ADA)]
    policy = policy_of(SOME)
    fewer = Rules(max_live_tokens=1)
    (event,) = set_policy(policy, team_id=TEAM_ID, rules=fewer, by=ADA)
    after = evolve(policy, Recorded(policy.id, 2, T1, COMMAND_ID, event))
    assert after == Policy(policy.id, 2, TEAM_ID, fewer)


def test_what_is_so_already_is_not_recorded() -> None:
    assert set_policy(None, team_id=None, rules=NO_RULES, by=ADA) == []
    assert set_policy(policy_of(SOME), team_id=TEAM_ID, rules=SOME, by=ADA) == []


@pytest.mark.parametrize(
    ("rules", "pointer"),
    [
        (Rules(max_lifetime_days=0), "/max_lifetime_days"),
        (Rules(max_lifetime_days=LIFETIME_MAX_DAYS + 1), "/max_lifetime_days"),
        (Rules(max_live_tokens=-1), "/max_live_tokens"),
        (Rules(max_live_tokens=LIVE_TOKENS_MAX + 1), "/max_live_tokens"),
    ],
)
def test_a_number_out_of_range_is_refused(rules: Rules, pointer: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        set_policy(None, team_id=None, rules=rules, by=ADA)
    assert caught.value.pointer == pointer


def test_without_rules_everything_is_allowed_and_nothing_is_counted() -> None:
    assert broken(NO_RULES, live_tokens=None) == []
    judge_expiry(NO_RULES, created_at=T0, expires_at=None)
    judge_resumption(NO_RULES, live_tokens=None)


def test_an_end_is_asked_for_where_it_is_required_or_the_life_is_limited() -> None:
    needed = [(ENDS, "the policy asks for an end")]
    assert broken(Rules(expiry_required=True)) == needed
    assert broken(Rules(max_lifetime_days=90)) == needed
    assert broken(Rules(expiry_required=True), expires_at=T0 + 9999 * DAY) == []


def test_the_longest_life_is_allowed_and_a_millisecond_more_is_not() -> None:
    rules = Rules(max_lifetime_days=90)
    assert broken(rules, expires_at=T0 + 90 * DAY) == []
    assert broken(rules, expires_at=T0 + 90 * DAY + MILLISECOND) == [
        (ENDS, "the policy allows 90 days from the creation")
    ]
    with pytest.raises(PolicyViolated):
        judge_expiry(rules, created_at=T0, expires_at=T0 + 91 * DAY)


def test_the_last_place_of_a_team_is_given_and_no_further_one() -> None:
    rules = Rules(max_live_tokens=3)
    assert broken(rules, live_tokens=2) == []
    assert broken(rules, live_tokens=3) == [TEAM_IS_FULL]
    with pytest.raises(PolicyViolated):
        judge_resumption(rules, live_tokens=3)


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert broken(SOME, live_tokens=3) == [(ENDS, "the policy asks for an end"), TEAM_IS_FULL]


def test_a_limit_is_never_judged_without_a_count() -> None:
    with pytest.raises(NotCounted):
        broken(Rules(max_live_tokens=3), live_tokens=None)


_RULES = st.builds(
    Rules,
    max_lifetime_days=st.none() | st.integers(1, 5),
    expiry_required=st.booleans(),
    max_live_tokens=st.none() | st.integers(0, 5),
)


@given(
    general=_RULES,
    own=_RULES,
    days=st.none() | st.integers(0, 6),
    live_tokens=st.integers(0, 6),
)
def test_a_token_is_allowed_where_both_policies_allow_it(
    general: Rules, own: Rules, days: int | None, live_tokens: int
) -> None:
    expires_at = None if days is None else T0 + days * DAY
    both = strictest([policy_of(general, None), policy_of(own)])
    is_allowed = [
        not broken(rules, expires_at=expires_at, live_tokens=live_tokens)
        for rules in (general, own, both)
    ]
    assert is_allowed[2] == (is_allowed[0] and is_allowed[1])


def test_the_policies_of_another_team_do_not_count() -> None:
    foreign = UUID(int=99)
    states = States({policy_id(foreign): policy_of(SOME, foreign)})
    assert rules_for(states, TEAM_ID) == NO_RULES
    assert rules_for(states, foreign) == SOME
    assert set(policies_of(TEAM_ID)) & set(policies_of(foreign)) == {policy_id(None)}


def test_a_policy_opens_no_door() -> None:
    policy = policy_of(SOME)
    assert (policy.secret_rows(), policy.stream_team, policy.uses) == ([], None, 0)


def test_the_trail_says_what_was_set() -> None:
    assert in_words(SOME) == "max_lifetime_days 90, expiry_required, max_live_tokens 3"
    assert in_words(Rules(max_live_tokens=0)) == "max_live_tokens 0"
    assert in_words(NO_RULES) == "no rules"


@given(
    general=_RULES,
    own=_RULES,
    life=st.none()
    | st.timedeltas(min_value=MILLISECOND, max_value=7 * DAY)
    | st.integers(1, 7).map(lambda days: days * DAY),
)
def test_a_token_lives_too_long_where_it_could_not_be_made(
    general: Rules, own: Rules, life: timedelta | None
) -> None:
    policies = [policy_of(general, None), policy_of(own)]
    expires_at = None if life is None else T0 + life
    lives = longest_lives(policies)
    for team_id, holding in ((TEAM_ID, policies), (UUID(int=5), policies[:1])):
        is_broken = lives.are_exceeded_by(team_id=team_id, created_at=T0, expires_at=expires_at)
        assert is_broken == bool(broken_by_end(strictest(holding), expires_at))


def broken_by_end(rules: Rules, expires_at: datetime | None) -> bool:
    try:
        judge_expiry(rules, created_at=T0, expires_at=expires_at)
    except PolicyViolated:
        return True
    return False
