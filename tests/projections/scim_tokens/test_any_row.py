"""A row of the view says what the token's state says: what is shown, which secrets there are until
when, and what is to be told. Pure: of any life, in one batch or in many.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import LedgerError
from domain.event import Recorded
from domain.eventstore.event_registry import REGISTRY
from domain.scim_token import warn
from domain.scim_token.changes import change, resume, suspend
from domain.scim_token.events import RotationFinished, ScimTokenEvent
from domain.scim_token.fold import evolve
from domain.scim_token.rotation import SecretsInUse, cancel, complete, finish, rotate, underway
from domain.scim_token.token import ScimToken
from domain.scim_token.warnings import Expired, Expiring, OldSecretStillUsed, RotationEnding
from domain.secret import Digest
from projections.described import rfc3339
from projections.projection import LogEntry
from projections.scim_tokens.known_secrets import KnownSecret
from projections.scim_tokens.row import TokenRow
from projections.scim_tokens.view import PROJECTION, document
from tests.domain.scenario import ADA, COMMAND_ID, IDP, T0, TOKEN_ID, created
from tests.projections.given_events import log_entries

DAY: Final = timedelta(days=1)
ENDS: Final = (None, 2 * DAY, 8 * DAY, 40 * DAY)
OVERLAPS: Final = (timedelta(0), DAY, 8 * DAY, 20 * DAY)
PROBES: Final = (0 * DAY, DAY, 7 * DAY, 10 * DAY, 33 * DAY, 100 * DAY)
OFTEN: Final = (*("rotate", "tell") * 4, *("finish", "complete", "cancel") * 2)
"""Beside each of them once: what most of the others need, and what seldom finds what it needs."""
Step = tuple[str, int, timedelta]


class Life:
    """What happened to a token, as the rules and its warnings had it."""

    def __init__(self, end: timedelta | None) -> None:
        self.at = T0
        first = created(expires_at=None if end is None else T0 + end)
        self.events = [first]
        self.token = evolve(None, Recorded(TOKEN_ID, 1, T0, COMMAND_ID, first[0]))

    def happen(self, events: Sequence[ScimTokenEvent]) -> None:
        for event in events:
            self.events.append((event, self.at))
            place = len(self.events)
            self.token = evolve(self.token, Recorded(TOKEN_ID, place, self.at, COMMAND_ID, event))


def _use(life: Life, which: int) -> Sequence[ScimTokenEvent]:
    held = life.token.secrets[which % len(life.token.secrets)].digest.value
    return life.token.use(held, presentation=IDP, count=1, first_at=life.at, at=life.at)


def _rotate(life: Life, which: int) -> Sequence[ScimTokenEvent]:
    digest = Digest(bytes([100 + len(life.events)]) * 32, 1)
    return rotate(life.token, digest=digest, overlap=OVERLAPS[which], rotated_by=ADA, at=life.at)


def _end(life: Life, which: int) -> Sequence[ScimTokenEvent]:
    end = ENDS[which]
    expires_at = None if end is None else life.at + end
    return change(life.token, expires_at=expires_at, by=ADA, reason=None, at=life.at)


def _finish(life: Life, which: int) -> Sequence[ScimTokenEvent]:
    """By itself; or as a clock recorded it that was ahead, whose instant was set right."""
    if which < 2:
        silent = SecretsInUse(life.token.secrets[-1].id, None, life.at + DAY, life.at + 2 * DAY)
        return finish(life.token, silent, at=life.at)
    secret, cause = life.token.secrets[0].id, ("over", "mistaken")[which - 2]
    return [RotationFinished(secret=secret, cause=cause)]


def _tell(life: Life, _: int) -> Sequence[ScimTokenEvent]:
    """What is true now."""
    found: list[ScimTokenEvent] = [
        *warn.of_end(life.token, life.at),
        *warn.of_silence(life.token, life.at, resumed_at=None),
    ]
    if (started_at := life.token.rotated_at) is not None:
        found += warn.of_rotation_end(life.token, started_at, life.at)
        if life.at >= started_at + DAY:
            day = (life.at - started_at) // DAY
            found += warn.of_old_secret(
                life.token, started_at, day=day, used_at=life.at, at=life.at
            )
    return found


def _tell_early(life: Life, which: int) -> Sequence[ScimTokenEvent]:
    """What a clock told that was ahead, whose instant was set right."""
    end, older = life.at + 60 * DAY, life.token.secrets[0].id
    early: list[ScimTokenEvent] = [
        Expiring(days=7, expires_at=end),
        Expired(expires_at=end),
        RotationEnding(secret=older, days=1, ends_at=end),
        OldSecretStillUsed(secret=older, day=3, used_at=end),
    ]
    return early[which : which + 1]


STEPS: Final[Mapping[str, Callable[[Life, int], Sequence[ScimTokenEvent]]]] = {
    "use": _use,
    "rotate": _rotate,
    "end": _end,
    "finish": _finish,
    "tell": _tell,
    "tell early": _tell_early,
    "complete": lambda life, _: complete(life.token, completed_by=ADA, at=life.at),
    "cancel": lambda life, _: cancel(life.token, cancelled_by=ADA, at=life.at),
    "name": lambda life, which: change(
        life.token, name=f"Okta {which}", by=ADA, reason=None, at=life.at
    ),
    "suspend": lambda life, _: suspend(life.token, by=ADA, reason=None),
    "resume": lambda life, _: resume(life.token, by=ADA, reason=None),
    "revoke": lambda life, which: life.token.revoke(by=ADA, reason=None) if which == 0 else [],
}


def check(row: TokenRow, token: ScimToken, at: datetime) -> None:
    """What a row and a state say at an instant from the last event on."""
    assert document(row) == document(token)
    assert row.unused_since == token.told.unused_since
    known = {each.id: each for each in msgspec.json.decode(row.secrets, type=list[KnownSecret])}
    for held in token.secrets:
        until = held.overlap_until
        assert known[held.id].ended_at == (None if until is None else rfc3339(until))
    is_due = row.next_warning_at is not None and row.next_warning_at <= at
    assert is_due == bool(warn.of_end(token, at))
    if token.revoked_at is not None:
        assert (row.rotation_ends_at, row.rotation_due_at) == (None, None)
        return
    older = token.outgoing
    assert row.rotation_ends_at == (None if older is None else older.overlap_until)
    if underway(token, at) is None or older is None or older.overlap_until is None:
        return
    assert row.old_secret_day == token.told.old_secret_day
    assert token.rotated_at is not None
    if token.expires_at is None or token.expires_at > older.overlap_until:
        is_due = row.rotation_due_at is not None and row.rotation_due_at <= at
        assert is_due == bool(warn.of_rotation_end(token, token.rotated_at, at))


def fold(rows: dict[Any, Any], entries: Sequence[LogEntry]) -> TokenRow:
    PROJECTION.fold(rows, [each for each in entries if each.topic in PROJECTION.topics], REGISTRY)
    (row,) = rows.values()
    assert isinstance(row, TokenRow)
    return row


@settings(max_examples=100)
@given(
    end=st.sampled_from([None, None, 40 * DAY, 400 * DAY]),
    steps=st.lists(
        st.tuples(
            st.sampled_from([*STEPS, *OFTEN]),
            st.integers(0, 3),
            st.sampled_from([timedelta(0), timedelta(seconds=10), DAY, DAY, 6 * DAY, 8 * DAY]),
        ),
        min_size=5,
        max_size=25,
    ),
)
def test_a_row_says_what_the_state_says(end: timedelta | None, steps: list[Step]) -> None:
    life, rows = Life(end), dict[Any, Any]()
    row, place = fold(rows, log_entries(*life.events)), 1
    for kind, which, later in steps:
        life.at += later
        with suppress(LedgerError):
            life.happen(STEPS[kind](life, which))
        entries = log_entries(*life.events)
        row, place = fold(rows, entries[place:]), len(entries)
        for probe in PROBES[:: which + 1]:
            check(row, life.token, life.at + probe)
    assert fold({}, log_entries(*life.events)) == row
