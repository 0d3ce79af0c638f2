"""Time in which nobody can be let in is no silence, and neither is that of a client that is
refused: no client's secret ends by it.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.event import Recorded
from domain.scim_token.events import Resumed, RotationFinished, Suspended
from domain.scim_token.fold import evolve
from domain.scim_token.rotation import DEFAULT_RULE, SecretsInUse, finish
from domain.secret import secret_id
from tests.domain.scenario import (
    ADA,
    COMMAND_ID,
    MINUTE,
    SECOND,
    T0,
    T1,
    created,
    rotated,
    state_after,
)

HOUR: Final = timedelta(hours=1)
DAY: Final = 24 * 60
"""In minutes, like all that follows."""
CYCLE_MAX: Final = 44
"""Of a client that has the older secret: less than two uses of the newer one are apart."""


@dataclass
class Client:
    """Calls each `cycle` minutes, whether it is let in or not, before the minute `until`.

    uses: when it was let in, oldest first. refused_at: when it was not, the last time.
    """

    cycle: int
    phase: int
    until: int = DAY
    uses: list[datetime] = field(default_factory=list)
    refused_at: datetime | None = None

    def call(self, minute: int, at: datetime, *, is_let_in: bool) -> None:
        """It may be its time."""
        is_time = minute < self.until and minute % self.cycle == self.phase % self.cycle
        if is_time and is_let_in:
            self.uses.append(at)
        elif is_time:
            self.refused_at = at


def in_use(older: Client, newer: Client, changed_at: datetime) -> SecretsInUse:
    """As the view tells it, which knows the first use of an hour, and the last of all."""
    refused_until = None
    if older.refused_at is not None and older.refused_at >= max([T1, *older.uses[-1:]]):
        refused_until = T0 + ((older.refused_at - T0) // HOUR + 1) * HOUR
    silent_since = max([changed_at, *older.uses[-1:], refused_until or changed_at])
    hours = -((T0 - silent_since - DEFAULT_RULE.silent_for) // HOUR)
    again = bisect_left(newer.uses, T0 + hours * HOUR)
    return SecretsInUse(
        secret_id(SECOND.value),
        older.uses[-1] if older.uses else None,
        newer.uses[again] if again < len(newer.uses) else None,
        newer.uses[-1] if newer.uses else None,
        refused_until,
    )


def finishes(
    older: Client,
    newer: Client,
    *,
    suspended: set[int],
    away: set[int],
    outside: Collection[int] = (),
) -> Iterator[tuple[int, str]]:
    """The minute and the cause of each finish, in a day of a rotation that is looked at twice a
    minute: when the newer one has been used, and when the older one has.

    outside: when the older one's client is in none of the token's networks.
    """
    token = state_after(created(), rotated(T1, overlap=30 * 24 * HOUR))
    for minute in range(DAY):
        if minute in away:
            continue
        at = T1 + minute * MINUTE
        is_suspended = minute in suspended
        if is_suspended != (token.suspended_at is not None):
            event = Suspended(ADA) if is_suspended else Resumed(ADA)
            token = evolve(token, Recorded(token.id, token.version + 1, at, COMMAND_ID, event))
        for client in (newer, older):
            is_outside = client is older and minute in outside
            client.call(minute, at, is_let_in=not (is_suspended or is_outside))
            for finished in finish(token, in_use(older, newer, token.updated_at), at=at):
                assert isinstance(finished, RotationFinished)
                yield minute, finished.cause


def spans(longest: int) -> st.SearchStrategy[set[int]]:
    """Minutes of the day that follow each other."""
    return st.builds(
        lambda start, length: set(range(start, start + length)),
        st.integers(0, DAY - 1),
        st.integers(0, longest),
    )


clients = st.builds(Client, st.integers(1, CYCLE_MAX), st.integers(0, CYCLE_MAX))


@settings(max_examples=150, deadline=None)
@given(
    older=clients,
    newer=clients,
    suspensions=st.lists(spans(10 * 60), max_size=4),
    outage=spans(10 * 60),
    outside=spans(10 * 60),
)
def test_a_client_that_still_has_the_older_secret_is_never_cut_off(
    older: Client,
    newer: Client,
    suspensions: list[set[int]],
    outage: set[int],
    outside: set[int],
) -> None:
    suspended = set[int]().union(*suspensions)
    assert not list(finishes(older, newer, suspended=suspended, away=outage, outside=outside))


@settings(max_examples=50, deadline=None)
@given(older=clients, newer=clients, moved_after=st.integers(0, 10 * 60))
def test_when_it_has_moved_to_the_newer_one_the_rotation_is_over_within_hours(
    older: Client, newer: Client, moved_after: int
) -> None:
    older.until = moved_after
    minute, cause = next(finishes(older, newer, suspended=set(), away=set()))
    assert cause == "silent"
    silence = T1 + minute * MINUTE - max([T1, *older.uses])
    assert 2 * HOUR + 45 * MINUTE <= silence <= 3 * HOUR + 3 * CYCLE_MAX * MINUTE
