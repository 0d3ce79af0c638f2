"""Which keys are needed, who holds what under each, and what changed meanwhile: the statements say
it of any keys, tokens and events.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.api_token.token import ApiToken
from domain.eventstore.aggregates import name_of
from domain.eventstore.peppers import retirement
from domain.scim_token.token import ScimToken
from tests.domain.eventstore.statements.test_digests_in_force import (
    API_TOKENS,
    INSTANTS,
    SCIM_TOKENS,
    in_force,
    owner,
    stored,
)
from tests.domain.scenario import T0

__all__ = ["owner"]

SQL: Final = retirement._SQL
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
SHOWN: Final = 5
"""Holders that are named."""
AGES: Final = st.sampled_from([0, 30, 90])
TOPICS: Final = {
    "scim_token.used.v1": False,
    "scim_token.refused.v1": False,
    "scim_token.rotated.v1": True,
    "scim_token.unused.v1": True,
}
"""And whether each changes what a token's secrets are."""
TOKENS: Final = st.lists(SCIM_TOKENS | API_TOKENS, max_size=6, unique_by=lambda token: token.id)


def put_keys(owner: psycopg.Connection[Any], keys: Iterable[tuple[int, int, bool]]) -> None:
    """keys: generation, minutes since it was recorded, whether it is retired."""
    for generation, age, is_retired in keys:
        owner.execute(
            "INSERT INTO ledger.pepper_generations VALUES (%s, %s, clock_timestamp() - %s, %s)",
            [generation, bytes([generation]) * 16, age * MINUTE, T0 if is_retired else None],
        )


@settings(max_examples=80)
@given(
    tokens=TOKENS,
    generation=st.integers(1, 3),
    after=INSTANTS,
    others=st.sets(st.integers(0, 5)),
)
def test_whoever_could_be_let_in_under_a_key_holds_it(
    owner: psycopg.Connection[Any],
    *,
    tokens: Sequence[ScimToken | ApiToken],
    generation: int,
    after: datetime,
    others: set[int],
) -> None:
    """others: the places of tokens that are not looked at."""
    with owner.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ledger.aggregates VALUES (%s, %s, %s)",
            [(token.id, name_of(token), stored(token)) for token in tokens],
        )
    among = [token.id for place, token in enumerate(tokens) if place not in others]
    asked = {"generation": generation, "after": after, "among": among}
    held = owner.execute(retirement.HOLDERS, asked).fetchall()
    of_some = owner.execute(retirement.HOLDERS_AMONG, asked).fetchall()
    owner.rollback()

    all_ = sorted(
        (kind, id_)
        for token in tokens
        for id_, kind, of_key in in_force(token, after)
        if of_key == generation
    )
    some = [holder for holder in all_ if holder[1] in among]
    assert held == [(len(all_), *holder) for holder in all_[:SHOWN]]
    assert of_some == [(len(some), *holder) for holder in some[:SHOWN]]


@settings(max_examples=40)
@given(
    tokens=TOKENS,
    keys=st.dictionaries(st.integers(1, 3), st.booleans()),
    asked=st.integers(1, 3),
    retired=st.integers(1, 3),
)
def test_each_key_is_told_with_what_is_digested_under_it(
    owner: psycopg.Connection[Any],
    *,
    tokens: Sequence[ScimToken | ApiToken],
    keys: dict[int, bool],
    asked: int,
    retired: int,
) -> None:
    """keys: whether each that the ledger knows is retired."""
    put_keys(owner, ((number, 0, is_retired) for number, is_retired in keys.items()))
    with owner.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ledger.aggregates VALUES (%s, %s, %s)",
            [(token.id, name_of(token), stored(token)) for token in tokens],
        )
    (now,) = owner.execute("SELECT clock_timestamp()").fetchall()[0]
    counted = owner.execute(SQL["count_digests"]).fetchall()
    known = owner.execute(SQL["fingerprints"], [asked]).fetchall()
    (newest,) = owner.execute(SQL["newest_generation"]).fetchall()
    owner.execute(SQL["retire"], [T0 + MINUTE, retired])
    after = owner.execute(SQL["known_keys"]).fetchall()
    given_keys = [bytes([9]) * 16, None, bytes([7]) * 16]
    recorded = owner.execute(SQL["record"], [given_keys]).rowcount
    prints = owner.execute("SELECT generation, fingerprint FROM ledger.pepper_generations")
    fingerprints = dict(prints.fetchall())
    owner.rollback()

    held = Counter((of_key, kind) for token in tokens for _, kind, of_key in in_force(token, now))
    kinds = ("scim_token", "api_token", "setup_link")
    assert [(row[0], row[1] is not None, row[2], *row[3:]) for row in counted] == [
        (
            *(number, number in keys, T0 if keys.get(number) else None),
            *(held[number, kind] for kind in kinds),
        )
        for number in sorted({*keys, *(of_key for of_key, _ in held)})
    ]
    assert known == [
        (bytes([number]) * 16, number) for number in (3, 2, 1) if number in keys and number <= asked
    ]
    assert newest == (max(keys, default=0),)
    retired_at = {number: T0 if is_retired else None for number, is_retired in keys.items()}
    retired_at |= {retired: T0 + MINUTE} if retired in keys else {}
    assert after == sorted(retired_at.items())
    new = {number: key for number, key in enumerate(given_keys, start=1) if key is not None}
    assert recorded == len(new.keys() - keys.keys())
    assert fingerprints == new | {number: bytes([number]) * 16 for number in keys}


@settings(max_examples=60)
@given(
    ages=st.lists(AGES, max_size=3),
    migrated=AGES,
    generation=st.integers(1, 3),
)
def test_a_secret_is_digested_anew_once_every_process_knows_the_newest_key(
    owner: psycopg.Connection[Any], *, ages: list[int], migrated: int, generation: int
) -> None:
    """ages: minutes since each key was recorded; migrated: since the last migration."""
    put_keys(owner, ((number, age, False) for number, age in enumerate(ages, start=1)))
    owner.execute(
        "UPDATE ledger.migrations SET applied_at = clock_timestamp()"
        " - CASE number WHEN 3 THEN %s ELSE interval '1 day' END",
        [migrated * MINUTE],
    )
    (may,) = owner.execute(SQL["may_rekey"], [generation, HOUR, HOUR]).fetchall()[0]
    owner.rollback()
    is_newest = bool(ages) and generation == len(ages)
    assert bool(may) == (is_newest and min(ages) >= 60 and migrated >= 60)


@settings(max_examples=40)
@given(
    has_key=st.booleans(),
    has_secret=st.booleans(),
    repairs=st.sets(st.sampled_from(["pepper", "states"])),
)
def test_a_pepper_is_needed_where_there_are_secrets_that_were_not_given_up(
    owner: psycopg.Connection[Any], *, has_key: bool, has_secret: bool, repairs: set[str]
) -> None:
    put_keys(owner, [(1, 0, False)] if has_key else [])
    if has_secret:
        owner.execute(
            "INSERT INTO ledger.secrets VALUES (%s, %s, NULL, 'infinity')", [bytes(32), uuid4()]
        )
    for kind in repairs:
        owner.execute(
            "INSERT INTO ledger.repairs (kind, by, reason) VALUES (%s, 'ada', 'lost')", [kind]
        )
    (is_needed,) = owner.execute(SQL["is_needed"]).fetchall()[0]
    owner.rollback()
    assert is_needed == (has_key or (has_secret and "pepper" not in repairs))


@settings(max_examples=60)
@given(
    events=st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from([*TOPICS]), st.sampled_from([-60, -1, 60])),
        max_size=5,
    ),
    since=st.sampled_from([0, 10, 20, 25]),
)
def test_what_changed_since_is_looked_at_again(
    owner: psycopg.Connection[Any], *, events: list[tuple[int, str, int]], since: int
) -> None:
    """events: the stream, the topic and the minutes from now of each."""
    (now,) = owner.execute("SELECT clock_timestamp()").fetchall()[0]
    rows = [
        (10 * place, UUID(int=stream), place, topic, now + ahead * MINUTE, uuid4(), b"")
        for place, (stream, topic, ahead) in enumerate(events, start=1)
    ]
    with owner.cursor() as cursor:
        cursor.executemany("INSERT INTO ledger.events VALUES (%s, %s, %s, %s, %s, %s, %s)", rows)
    (reached,) = owner.execute(SQL["reached"], [30 * MINUTE]).fetchall()
    changed = owner.execute(SQL["changed_since"], [since]).fetchall()
    owner.rollback()
    assert sorted(changed) == sorted(
        {(row[1],) for row in rows if row[0] > since and TOPICS[row[3]]}
    )
    assert reached[0] == 10 * len(events)
    over = max([now - 30 * MINUTE, *(row[4] for row in rows[-1:])])
    assert timedelta(0) <= reached[1] - over < MINUTE
