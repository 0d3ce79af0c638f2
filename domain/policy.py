"""The `Policy` aggregate: what a deployment, or one team of it, asks of its SCIM tokens. Pure.

There is a general policy and one for each team that has its own. A token has to keep both: a team's
own can only ask for more. A policy is judged when a token is created or changed; those that were
made before go on.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import ClassVar, Final
from uuid import UUID, uuid5

import msgspec

from domain.errors import InvalidValue, LedgerError, PolicyViolated, Violation
from domain.event import Actor, Event, Recorded, States, WithoutSecrets, next_version
from domain.scim_token.conditions import LongestLives
from domain.scim_token.values import ENDLESS_DAYS, lifetime_days

LIFETIME_MAX_DAYS: Final = 36_500
LIVE_TOKENS_MAX: Final = 1_000_000
_NAMESPACE: Final = UUID("3f0c1a52-5a77-4a0e-9d3b-6b6a6d1f2c48")


@lru_cache(maxsize=1024)
def policy_id(team_id: UUID | None) -> UUID:
    """The aggregate's id: the same in every process. team_id: None for the general policy."""
    # Cached: four hashes a creation were a twentieth of its cost.
    return uuid5(_NAMESPACE, "general" if team_id is None else str(team_id))


class NotCounted(LedgerError):
    """A decision depends on how many live tokens a team has, which the command did not ask for."""


class Rules(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is asked of a token; nothing, unless it is given.

    max_lifetime_days: from its creation to its end, 1 to 36,500. A token without an end breaks it.
    expiry_required: it must have an end. max_live_tokens: of one team at a time, 0 to 1,000,000;
    those that are suspended, revoked or expired do not count.
    """

    max_lifetime_days: int | None = None
    expiry_required: bool = False
    max_live_tokens: int | None = None


NO_RULES: Final = Rules()


def most_days(rules: Rules) -> int:
    """How many `lifetime_days` the rules allow; ENDLESS_DAYS where they ask for no end."""
    if rules.max_lifetime_days is not None:
        return rules.max_lifetime_days
    return ENDLESS_DAYS - 1 if rules.expiry_required else ENDLESS_DAYS


def in_words(rules: Rules) -> str:
    """The rules for the audit trail, e.g. "max_lifetime_days 365, expiry_required"."""
    given = msgspec.structs.asdict(rules).items()
    words = [
        name if value is True else f"{name} {value}"
        for name, value in given
        if value is not None and value is not False
    ]
    return ", ".join(words) or "no rules"


class Set(Event, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The rules were replaced as a whole.

    team_id: None for the general policy. rules: all that hold from now on. set_by: user and API
    token of the caller.
    """

    topic: ClassVar[str] = "policy.set.v1"
    team_id: UUID | None
    rules: Rules
    set_by: Actor


EVENTS: Final[Sequence[type[Event]]] = (Set,)


class Policy(WithoutSecrets, frozen=True):
    """State after `version` events."""

    id: UUID
    version: int
    team_id: UUID | None
    rules: Rules


def set_policy(
    before: Policy | None, *, team_id: UUID | None, rules: Rules, by: Actor
) -> list[Set]:
    """Replace the rules; silent where they are what they were.

    Raises InvalidValue on a number out of range.
    """
    for pointer, number, least, most in (
        ("/max_lifetime_days", rules.max_lifetime_days, 1, LIFETIME_MAX_DAYS),
        ("/max_live_tokens", rules.max_live_tokens, 0, LIVE_TOKENS_MAX),
    ):
        if number is not None and not least <= number <= most:
            raise InvalidValue(pointer, f"must be {least} to {most}")
    if rules == (NO_RULES if before is None else before.rules):
        return []
    return [Set(team_id=team_id, rules=rules, set_by=by)]


def longest_lives(policies: Iterable[Policy]) -> LongestLives:
    """What a general policy and teams' own allow together."""
    allowed = {policy.team_id: most_days(policy.rules) for policy in policies}
    general = allowed.pop(None, ENDLESS_DAYS)
    own = {
        team_id: days for team_id, days in allowed.items() if team_id is not None and days < general
    }
    return LongestLives(general, own)


def policies_of(team_id: UUID) -> tuple[UUID, UUID]:
    """The policies that hold for a team's tokens."""
    return policy_id(None), policy_id(team_id)


def lives_for(states: States, teams: Iterable[UUID]) -> LongestLives:
    """How long teams' tokens may live; `states` holds their policies, where there are any."""
    found = (states.get(id_) for team_id in teams for id_ in policies_of(team_id))
    return longest_lives(each for each in found if isinstance(each, Policy))


def rules_for(states: States, team_id: UUID) -> Rules:
    """What a team's tokens have to keep; `states` holds its policies, where there are any."""
    found = (states.get(id_) for id_ in policies_of(team_id))
    return strictest(each for each in found if isinstance(each, Policy))


def strictest(policies: Iterable[Policy]) -> Rules:
    """What a token has to keep where several policies hold: of each rule the strictest."""
    given = [policy.rules for policy in policies]
    return Rules(
        max_lifetime_days=_least(rules.max_lifetime_days for rules in given),
        expiry_required=any(rules.expiry_required for rules in given),
        max_live_tokens=_least(rules.max_live_tokens for rules in given),
    )


def judge_expiry(rules: Rules, *, created_at: datetime, expires_at: datetime | None) -> None:
    """Raise PolicyViolated where a token of that creation must not end then."""
    violation = _of_expiry(rules, created_at, expires_at)
    if violation is not None:
        raise PolicyViolated([violation])


def judge_creation(
    rules: Rules, *, at: datetime, expires_at: datetime | None, live_tokens: int | None
) -> None:
    """Raise PolicyViolated, with all that is wrong, where a team may not have this token as well.

    live_tokens: how many it has already; None where that was not counted. Raises NotCounted where
    it must be.
    """
    found = (
        _of_expiry(rules, at, expires_at),
        _of_number(rules, live_tokens),
    )
    violations = [violation for violation in found if violation is not None]
    if violations:
        raise PolicyViolated(violations)


def judge_resumption(rules: Rules, *, live_tokens: int | None) -> None:
    """Raise PolicyViolated where a team may not have one more live token; NotCounted likewise."""
    violation = _of_number(rules, live_tokens)
    if violation is not None:
        raise PolicyViolated([violation])


def _of_expiry(rules: Rules, created_at: datetime, expires_at: datetime | None) -> Violation | None:
    days = most_days(rules)
    if lifetime_days(created_at, expires_at) <= days:
        return None
    if expires_at is None:
        return Violation("/expires_at", "the policy asks for an end")
    return Violation("/expires_at", f"the policy allows {days} days from the creation")


def _of_number(rules: Rules, live_tokens: int | None) -> Violation | None:
    most = rules.max_live_tokens
    if most is None:
        return None
    if live_tokens is None:
        raise NotCounted
    if live_tokens < most:
        return None
    return Violation("/team_id", f"the policy allows the team {most} live tokens, and it has them")


def _least(numbers: Iterable[int | None]) -> int | None:
    return min((number for number in numbers if number is not None), default=None)


def evolve(policy: Policy | None, recorded: Recorded) -> Policy:
    """Fold one recorded event into the state."""
    event = recorded.event
    assert isinstance(event, Set), event
    return Policy(
        id=recorded.originator_id,
        version=next_version(policy, recorded),
        team_id=event.team_id,
        rules=event.rules,
    )
