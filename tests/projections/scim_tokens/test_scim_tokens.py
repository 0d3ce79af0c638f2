"""The view `scim_tokens`: given events, a row and the document that is sent."""

import json
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from domain.eventstore.event_registry import REGISTRY
from domain.scim_token.values import ENDLESS_DAYS
from projections.described import rfc3339 as at
from projections.runner import Runner
from projections.scim_tokens.row import TokenRow
from projections.scim_tokens.view import PROJECTION, render
from tests.conftest import Database, catch_up
from tests.domain.scenario import (
    MILLISECOND,
    T0,
    T1,
    T2,
    T3,
    T4,
    TEAM_ID,
    THIRD,
    TOKEN_ID,
    Given,
    changed,
    created,
    refused,
    revoked,
    rotated,
    used,
)
from tests.projections.given_events import log_entries, record, row_after, select, with_own_secret


def row_of(*events: Given) -> TokenRow:
    row: TokenRow = row_after(PROJECTION, *events)
    return row


def document_of(*events: Given) -> str:
    *parts, _, _ = render(row_of(*events))
    return "".join(parts)


HEAD = (
    '{"id":"9c858901-8a57-4791-81fe-4c455b099bc9","team_id":"05daecaf-4365-42e8-8370-8127de5dd717",'
    '"name":"Okta","created_by":"00000000-0000-0000-0000-000000000001",'
)


def test_a_created_token_is_exactly_the_documented_object() -> None:
    assert document_of(created(T0)) == (
        HEAD + '"last_used_at":null,'
        '"created_at":"2021-08-10T10:00:00.000Z","updated_at":"2021-08-10T10:00:00.000Z"}'
    )


def test_a_created_token_is_a_row() -> None:
    assert row_of(created(T0, expires_at=T4)) == TokenRow(
        id=TOKEN_ID,
        team_id=TEAM_ID,
        name="Okta",
        created_by=UUID(int=1),
        last_used_at=None,
        created_at=T0,
        updated_at=T0,
        expires_at=T4,
        rotated_at=None,
        revoked_at=None,
        next_warning_at=T0,
        secrets='[{"id":"01010101","created_at":"2021-08-10T10:00:00.000Z"}]',
    )


def test_a_row_knows_the_secrets_that_there_were() -> None:
    """And that a later rotation ends earlier what ends anyhow."""
    row = row_of(created(T0), rotated(T1), rotated(T2, digest=THIRD, overlap=timedelta(0)))
    assert json.loads(row.secrets) == [
        {"id": "01010101", "created_at": "2021-08-10T10:00:00.000Z", "ended_at": at(T2)},
        {"id": "02020202", "created_at": "2021-08-10T11:00:00.000Z", "ended_at": at(T2)},
        {"id": "03030303", "created_at": "2021-08-10T12:00:00.000Z"},
    ]
    row = row_of(created(T0), rotated(T1, overlap=timedelta(hours=1)), rotated(T3, digest=THIRD))
    assert [each.get("ended_at") for each in json.loads(row.secrets)] == [
        at(T2),
        at(T3 + timedelta(days=1)),
        None,
    ]


def test_each_later_event_sets_its_instant() -> None:
    row = row_of(created(T0), used(T1), rotated(T2), used(T3), revoked(T4))
    assert (row.last_used_at, row.rotated_at, row.revoked_at) == (T3, T2, T4)
    assert (row.created_at, row.updated_at) == (T0, T4)


def test_a_use_moves_last_used_at_and_nothing_else() -> None:
    assert document_of(created(T0), used(T1), used(T2 + 7 * MILLISECOND)) == (
        HEAD + '"last_used_at":"2021-08-10T12:00:00.007Z",'
        '"created_at":"2021-08-10T10:00:00.000Z","updated_at":"2021-08-10T10:00:00.000Z"}'
    )


def test_extensions_appear_once_they_are_used_in_a_fixed_order() -> None:
    assert document_of(created(T0, expires_at=T4), rotated(T1), used(T2), revoked(T3)) == (
        HEAD + '"last_used_at":"2021-08-10T12:00:00.000Z",'
        '"created_at":"2021-08-10T10:00:00.000Z","updated_at":"2021-08-10T13:00:00.000Z",'
        '"expires_at":"2021-08-10T14:00:00.000Z","rotated_at":"2021-08-10T11:00:00.000Z",'
        '"revoked_at":"2021-08-10T13:00:00.000Z"}'
    )


def test_a_rotation_and_a_revocation_move_updated_at() -> None:
    assert '"updated_at":"2021-08-10T11:00:00.000Z"' in document_of(created(T0), rotated(T1))
    assert '"updated_at":"2021-08-10T12:00:00.000Z"' in document_of(created(T0), revoked(T2))


def test_a_row_does_not_grow_with_the_changes_of_its_token() -> None:
    """What each of them replaced is in the trail."""
    often = [changed(T1, name=("Okta", "Entra")[n % 2], expires_at=T4) for n in range(101)]
    assert row_of(created(T0), *often) == row_of(created(T0), changed(T1, expires_at=T4))


def test_a_refused_secret_changes_nothing() -> None:
    assert row_of(created(T0), revoked(T1), refused(T2)) == row_of(created(T0), revoked(T1))


@pytest.mark.parametrize(
    "name", ['"quoted" \\', "プロビジョニング 👩🏽‍💻", "\u202eright to left", "</script>"]
)
def test_a_name_is_sent_as_it_came(name: str) -> None:
    assert json.loads(document_of(created(name=name)))["name"] == name


def test_milliseconds_are_never_rounded_up() -> None:
    at = T0 + timedelta(microseconds=999_999)
    assert '"created_at":"2021-08-10T10:00:00.999Z"' in document_of(created(at))


@pytest.mark.parametrize("split", range(1, 4))
def test_it_does_not_matter_how_events_are_cut_into_batches(split: int) -> None:
    entries = log_entries(created(T0, expires_at=T4), used(T1), rotated(T2), revoked(T3))
    rows: dict[UUID, TokenRow] = {}
    PROJECTION.fold(rows, entries[:split], REGISTRY)
    PROJECTION.fold(rows, entries[split:], REGISTRY)
    assert rows[TOKEN_ID] == row_of(created(T0, expires_at=T4), used(T1), rotated(T2), revoked(T3))


def test_the_stored_row_and_its_document_are_those_of_the_fold(database: Database) -> None:
    record(
        database, created(T0, expires_at=T4), used(T1), rotated(T2), revoked(T3), token_id=TOKEN_ID
    )
    catch_up(database)
    history = (created(T0, expires_at=T4), used(T1), rotated(T2), revoked(T3))
    expected = row_of(*with_own_secret(history, TOKEN_ID))
    assert select(database, "TABLE views.scim_tokens_v1") == [tuple(PROJECTION.values(expected))]
    assert expected.team_id == TEAM_ID


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5])
def test_what_a_use_sets_is_what_the_fold_comes_to(database: Database, batch: int) -> None:
    """Whether a batch holds uses alone, or something else that happens to the token, too."""
    history = (created(T0), used(T1), used(T2 + 7 * MILLISECOND), rotated(T3), used(T4))
    record(database, *history, token_id=TOKEN_ID)
    with psycopg.connect(database.app, autocommit=True) as connection:
        Runner(database.app, [PROJECTION], batch=batch).catch_up(connection)
    expected = row_of(*with_own_secret(history, TOKEN_ID))
    assert select(database, "TABLE views.scim_tokens_v1") == [tuple(PROJECTION.values(expected))]


def test_a_use_writes_no_index_but_the_first_one(database: Database) -> None:
    """C16: what a list of unused tokens costs.

    Each would write an index on what changes with each.
    """
    record(database, created(T0), *(used(T0 + n * MILLISECOND) for n in range(1, 21)))
    with psycopg.connect(database.app, autocommit=True) as connection:
        Runner(database.app, [PROJECTION], batch=1).catch_up(connection)
        connection.execute("SELECT pg_stat_force_next_flush()")
    ((updates, without_index),) = select(
        database,
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'scim_tokens_v1'",
    )
    assert updates == 20
    # The first use, and another where a snapshot elsewhere kept the page from being tidied: not
    # every one.
    assert 1 <= updates - without_index < 5


@pytest.mark.parametrize(
    ("events", "days"),
    [
        ((created(T0),), ENDLESS_DAYS),
        ((created(T0, expires_at=T0 + timedelta(days=90)),), 90),
        ((created(T0, expires_at=T0 + timedelta(days=90, milliseconds=1)),), 91),
        ((created(T0, expires_at=T0 + timedelta(milliseconds=1)), used(T0)), 1),
        ((created(T0), changed(T1, expires_at=T0 + timedelta(days=5))), 5),
        (
            (created(T0, expires_at=T0 + timedelta(days=5)), changed(T1, expires_at=None)),
            ENDLESS_DAYS,
        ),
        ((created(T0), revoked(T1)), None),
    ],
)
def test_a_life_is_counted_in_days_that_began_until_it_is_revoked(
    events: tuple[Given, ...], days: int | None
) -> None:
    assert render(row_of(*events))[-1] == days
