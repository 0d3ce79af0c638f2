"""E1, E2, E3: whatever happened, in whatever batches it came, the views are exact,
now and at each instant.

Told by the plainest fold, one event after the other; instants are coarse, so that many events share
one.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, settings
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.event import Event
from domain.postgres.read_pool import ReadPool
from domain.scim_token.events import Created, Presentation, Refused, Revoked, Rotated, Used
from domain.secret import Digest
from projections.rebuild.run import check_view
from projections.registry import PROJECTIONS
from projections.scim_tokens.as_of import AsOfQueries
from projections.scim_tokens.filters import TokenFilter
from projections.scim_tokens.queries import TokenQueries
from projections.scim_tokens.row import TokenRow
from projections.scim_tokens.view import document
from tests.conftest import Database, new_database
from tests.domain.scenario import ADA, MILLISECOND, MINUTE, T0, TEAM_ID
from tests.projections.history import Fact, given, rows
from tests.projections.rebuild.lives import app

TOKENS: Final = tuple(UUID(int=number) for number in (1, 2, 3))
CLOCK_AND_IDS: Final = ("192.0.2.1", "2001:db8::1", None)
HOUR: Final = timedelta(hours=1)


class Step(msgspec.Struct, frozen=True):
    """What happens next, to which token, and how much later than what was before."""

    token: int
    kind: str
    later: timedelta
    source: str | None
    count: int


BATCHES: Final = st.sampled_from([1, 2, 3, 7, 5000])
STEPS: Final = st.lists(
    st.builds(
        Step,
        token=st.integers(0, 2),
        kind=st.sampled_from(["used"] * 6 + ["refused"] * 3 + ["rotated", "rotated", "revoked"]),
        later=st.sampled_from([timedelta(0)] * 4 + [MILLISECOND, MINUTE, 20 * MINUTE]),
        source=st.sampled_from(CLOCK_AND_IDS),
        count=st.integers(1, 5),
    ),
    min_size=1,
    max_size=25,
)


def facts(steps: Sequence[Step]) -> list[Fact]:
    """Three tokens, two of which expire, and what happens to them;
    a revoked one is only refused.
    """
    at = T0
    found: list[Fact] = []
    revoked: set[UUID] = set()
    for number, token_id in enumerate(TOKENS):
        expires_at = None if number == 0 else T0 + number * 30 * MINUTE
        digest = Digest(sha256(token_id.bytes).digest(), 1)
        found.append((token_id, Created(TEAM_ID, f"token {number}", ADA, digest, expires_at), at))
    for number, step in enumerate(steps):
        at += step.later
        token_id = TOKENS[step.token]
        how = Presentation(door="scim", source=step.source)
        event: Event
        if step.kind == "refused" or token_id in revoked:
            event = Refused("revoked", how)
        elif step.kind == "used":
            event = Used(step.count, at, how, ("5e1f09ab", None)[step.count % 2])
        elif step.kind == "rotated":
            event = Rotated(ADA, Digest(sha256(bytes([number])).digest(), 1), at + HOUR)
        else:
            event = Revoked(ADA, None)
            revoked.add(token_id)
        found.append((token_id, event, at))
    return found


def as_told(history: Sequence[Fact], at: datetime) -> Mapping[UUID, dict[str, Any]]:
    """The columns of each token after the events up to and at an instant."""
    found: dict[UUID, dict[str, Any]] = {}
    for token_id, event, then in history:
        if then > at:
            break
        if isinstance(event, Created):
            found[token_id] = {
                "id": token_id,
                "team_id": event.team_id,
                "name": event.name,
                "created_by": event.created_by.user_id,
                "created_at": then,
                "updated_at": then,
                "expires_at": event.expires_at,
                "last_used_at": None,
                "rotated_at": None,
                "revoked_at": None,
            }
        elif isinstance(event, Used):
            found[token_id]["last_used_at"] = then
        elif isinstance(event, Rotated):
            found[token_id] |= {"rotated_at": then, "updated_at": then}
        elif isinstance(event, Revoked):
            found[token_id] |= {"revoked_at": then, "updated_at": then}
    return found


def status_at(token: Mapping[str, Any], at: datetime) -> str:
    """One rule for instants: what happens at one has happened at it,
    and a token expires at its expiry.
    """
    if token["revoked_at"] is not None:
        return "revoked"
    is_over = token["expires_at"] is not None and token["expires_at"] <= at
    return "expired" if is_over else "active"


def decoded(documents: str) -> list[Any]:
    """Without the rotations, which a document of the past does not have."""
    found = msgspec.json.decode(documents)
    return [{name: each[name] for name in each if name != "rotation"} for each in found]


def rendered(token: Mapping[str, Any]) -> Any:
    return msgspec.to_builtins(document(TokenRow(**token)))


async def check_as_of(
    database: Database, history: Sequence[Fact], instants: Sequence[datetime]
) -> None:
    """Each token and each list, as it was; and the lists of now, as of the last instant."""
    pool = ReadPool(database.app, timeout_s=10)
    try:
        queries, present = AsOfQueries(pool), TokenQueries(pool)
        for at in instants:
            told = as_told(history, at)
            for token_id in TOKENS:
                found = await queries.find(token_id, teams=None, at=at, ledger_head=0)
                is_there = token_id in told and told[token_id]["revoked_at"] is None
                assert (found is not None) == is_there
                assert found is None or msgspec.json.decode(found) == rendered(told[token_id])
            newest = sorted(
                told.values(), key=lambda token: (token["created_at"], token["id"]), reverse=True
            )
            for status in ("active", "expired", "revoked", "all"):
                expected = [
                    rendered(each) for each in newest if status in {"all", status_at(each, at)}
                ]
                narrow = TokenFilter(status=status)
                page = await queries.page(narrow, after=None, limit=9, at=at, ledger_head=0)
                assert decoded(page.documents) == expected, (status, at)
                if at >= history[-1][2]:
                    page = await present.page(narrow, after=None, limit=9, at=at, ledger_head=0)
                    assert decoded(page.documents) == expected, status
    finally:
        await pool.close()


def check_counts(database: Database, history: Sequence[Fact]) -> None:
    """Uses and refusals of each secret, hour and address are sums of what the events say.

    Their first and last instants are those of the events.
    """
    uses, refusals = Counter[bytes](), Counter[bytes]()
    instants: dict[bytes, list[datetime]] = {}
    for token_id, event, at in history:
        if isinstance(event, Used | Refused):
            hour = int(at.timestamp()) // 3600
            key = (
                token_id.bytes
                + (event.secret or "--------").encode()
                + hour.to_bytes(4, "big")
                + (event.presentation.source or "").encode()
            )
            if isinstance(event, Used):
                uses[key] += event.count
                instants.setdefault(key, []).append(at)
            else:
                refusals[key] += 1
    found = rows(database, PROJECTIONS[2], "key, uses, refusals, first_at, last_at FROM {table}")
    assert PROJECTIONS[2].name == "usage"
    assert {key: columns for key, *columns in found} == {
        key: [uses[key], refusals[key], *ends(instants.get(key))] for key in uses | refusals
    }


def ends(instants: Sequence[datetime] | None) -> tuple[datetime | None, datetime | None]:
    return (min(instants), max(instants)) if instants else (None, None)


def uses_of_one(kind: str, *, later: timedelta) -> list[Step]:
    """The same token, in the same way, again and again."""
    return [Step(0, kind, later, CLOCK_AND_IDS[0], 2)] * 6


def check_views(server: str, steps: list[Step], batch: int) -> None:
    """One history in batches of a size, and every view of it compared."""
    with new_database(server) as database:
        history = facts(steps)
        given(database, *history, batch=batch)
        check_counts(database, history)
        turns = {at for _, _, at in history} | {T0 + 30 * MINUTE, T0 + HOUR}
        instants = sorted(turns)[:6] + sorted(turns)[-3:]
        around = {
            at + step for at in instants for step in (-MILLISECOND, timedelta(0), MILLISECOND)
        }
        asyncio.run(check_as_of(database, history, sorted(around)))
        with app(database) as connection:
            assert [check_view(connection, each) for each in PROJECTIONS] == [None] * len(
                PROJECTIONS
            )


@settings(max_examples=3)
@example(steps=uses_of_one("used", later=MINUTE), batch=3)  # E1: the last of several in a batch
@example(steps=uses_of_one("refused", later=MINUTE), batch=2)  # E2: counts of batches add up
@given_any(steps=STEPS, batch=BATCHES)
def test_the_views_are_exact(server: str, steps: list[Step], batch: int) -> None:
    check_views(server, steps, batch)


@pytest.mark.long
@settings(max_examples=20)
@given_any(steps=STEPS, batch=BATCHES)
def test_the_views_are_exact_in_more_histories(server: str, steps: list[Step], batch: int) -> None:
    check_views(server, steps, batch)


@pytest.mark.slow
@settings(max_examples=200)
@given_any(steps=STEPS, batch=BATCHES)
def test_the_views_are_exact_in_many_histories(server: str, steps: list[Step], batch: int) -> None:
    check_views(server, steps, batch)
