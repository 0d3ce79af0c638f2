"""The view `audit_trail`: given events, these rows;
the same again when delivered twice or rebuilt.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest

from domain.api_token import events as api_token
from domain.api_token.permissions import Permission
from domain.event import Actor
from domain.eventstore.event_registry import REGISTRY
from domain.refusals import tally as refusal_tally
from domain.scim_token import events as scim_token
from domain.scim_token.events import Presentation
from domain.secret import secret_id
from projections.audit_trail import view as audit_trail
from projections.audit_trail.details import DETAILS
from projections.audit_trail.view import (
    PROJECTION,
    SELECTED,
    AuditEvent,
    AuditRow,
    event_of,
)
from tests.conftest import Database, catch_up
from tests.domain.scenario import (
    ADA,
    COMMAND_ID,
    FIRST,
    SECOND,
    T0,
    T1,
    T2,
    T3,
    T4,
    TEAM_ID,
    THIRD,
    TOKEN_ID,
    UNKNOWN,
)
from tests.projections.history import Fact, content, deliver_again, given, rebuilt, rows

API_TOKEN_ID, USER_ID, ADMIN = UUID(int=20), UUID(int=21), Actor(UUID(int=30), UUID(int=31))
OKTA = Presentation(
    door="scim",
    form="bare",
    source="192.0.2.1",
    user_agent="Okta",
    method="GET",
    path_class="Users",
    note="bare token",
)

CREATED: Fact = (
    TOKEN_ID,
    scim_token.Created(team_id=TEAM_ID, name="Okta", created_by=ADA, digest=FIRST, expires_at=None),
    T0,
)
USED: Fact = (TOKEN_ID, scim_token.Used(3, T1, OKTA, secret_id(FIRST.value)), T1)
ROTATED: Fact = (
    TOKEN_ID,
    scim_token.Rotated(rotated_by=ADA, digest=SECOND, overlap_until=T2 + timedelta(hours=24)),
    T2,
)
REVOKED: Fact = (TOKEN_ID, scim_token.Revoked(revoked_by=None, reason="leaked"), T3)
REFUSED: Fact = (TOKEN_ID, scim_token.Refused("revoked", OKTA, secret_id(SECOND.value)), T4)


def created_api_token(by: Actor | None) -> Fact:
    event = api_token.Created(
        user_id=USER_ID,
        teams=None,
        permissions=(Permission.AUDIT_READ,),
        digest=THIRD,
        created_by=by,
        expires_at=None,
    )
    return API_TOKEN_ID, event, T0


def trail(database: Database) -> list[AuditEvent]:
    return [
        event_of(AuditRow(*row))
        for row in rows(database, PROJECTION, f"{SELECTED} FROM {{table}} ORDER BY position")
    ]


def told(**fields: Any) -> dict[str, Any]:
    """A row: what is given, and otherwise what an event has that nobody signed or presented."""
    nothing = dict.fromkeys(field.name for field in msgspec.structs.fields(AuditEvent))
    return nothing | {"count": 1, "outcome": "success", "use_id": COMMAND_ID} | fields


def same_but_position(events: list[AuditEvent]) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(event) | {"position": None} for event in events]


def test_the_life_of_a_token_is_told_with_its_team_on_every_row(database: Database) -> None:
    given(database, CREATED, USED, ROTATED, REVOKED, REFUSED)

    of_token = {"team_id": TEAM_ID, "token_id": TOKEN_ID}
    first, second = ({**of_token, "secret": id_ * 4} for id_ in ("01", "02"))
    of_ada = {"user_id": ADA.user_id, "api_token_id": ADA.api_token_id}
    of_okta = {
        "door": "scim",
        "source": "192.0.2.1",
        "user_agent": "Okta",
        "method": "GET",
        "path_class": "Users",
        "note": "bare token",
    }
    assert same_but_position(trail(database)) == [
        told(**first, **of_ada, at="2021-08-10T10:00:00.000Z", kind="scim_token.created"),
        told(**first, **of_okta, at="2021-08-10T11:00:00.000Z", kind="scim_token.used", count=3),
        told(**second, **of_ada, at="2021-08-10T12:00:00.000Z", kind="scim_token.rotated"),
        told(**of_token, at="2021-08-10T13:00:00.000Z", kind="scim_token.revoked", reason="leaked"),
        told(
            **second,
            **of_okta,
            at="2021-08-10T14:00:00.000Z",
            kind="scim_token.refused",
            outcome="refused",
            reason="revoked",
        ),
    ]


@pytest.mark.parametrize("operator", [None, "root@db1"])
def test_b12_what_the_command_line_did_to_an_api_token_is_not_its_holders_doing(
    database: Database, operator: str | None
) -> None:
    """None: of an event that a release stored which knew no name of the operator."""
    by = None if operator is None else Actor(None, None, operator=operator)
    given(
        database,
        created_api_token(by=by),
        (API_TOKEN_ID, api_token.Used(), T1),
        (API_TOKEN_ID, api_token.Revoked(revoked_by=by), T2),
    )

    it = {"token_id": API_TOKEN_ID}
    assert same_but_position(trail(database)) == [
        told(**it, at="2021-08-10T10:00:00.000Z", kind="api_token.created", operator=operator),
        told(
            **it,
            user_id=USER_ID,
            api_token_id=API_TOKEN_ID,
            at="2021-08-10T11:00:00.000Z",
            kind="api_token.used",
        ),
        told(**it, at="2021-08-10T12:00:00.000Z", kind="api_token.revoked", operator=operator),
    ]


def test_b13_a_command_tells_from_where_it_came(database: Database) -> None:
    ada = msgspec.structs.replace(ADA, source="2001:db8::7", user_agent="curl/8")
    root = Actor(user_id=ADA.user_id, api_token_id=None, operator="root@db1")
    burnt = scim_token.Revoked(
        None, None, Presentation("revoke", source="192.0.2.9", user_agent="Okta")
    )
    given(
        database,
        created_api_token(by=ada),
        CREATED,
        (TOKEN_ID, scim_token.Rotated(rotated_by=ada, digest=SECOND, overlap_until=T2), T1),
        (TOKEN_ID, scim_token.Rotated(rotated_by=root, digest=UNKNOWN, overlap_until=T2), T2),
        (TOKEN_ID, burnt, T3),
    )

    made, _, rotated, by_root, of_holder = same_but_position(trail(database))
    from_ada: dict[str, Any] = {
        "user_id": ADA.user_id,
        "api_token_id": ADA.api_token_id,
        "operator": None,
        "door": None,
    }
    from_ada |= {"source": "2001:db8::7", "user_agent": "curl/8"}
    assert from_ada.items() <= made.items()
    assert from_ada.items() <= rotated.items()
    signed = {"user_id": ADA.user_id, "api_token_id": None, "source": None, "operator": "root@db1"}
    assert signed.items() <= by_root.items()
    held: dict[str, Any] = {
        "user_id": None,
        "api_token_id": None,
        "operator": None,
        "door": "revoke",
    }
    assert (held | {"source": "192.0.2.9", "user_agent": "Okta"}).items() <= of_holder.items()


def test_b13_a_refused_call_is_told_with_its_caller_and_what_it_lacked(database: Database) -> None:
    asked = Presentation(
        "api", source="192.0.2.1", user_agent="curl", method="POST", path_class="scim-token"
    )
    given(
        database,
        created_api_token(by=ADMIN),
        (API_TOKEN_ID, api_token.Refused("permission", Permission.SCIM_TOKENS_WRITE, asked), T1),
        (API_TOKEN_ID, api_token.Refused("revoked", None, asked), T2),
    )

    same: dict[str, Any] = {
        "token_id": API_TOKEN_ID,
        "user_id": USER_ID,
        "api_token_id": API_TOKEN_ID,
    }
    same |= {
        "kind": "api_token.refused",
        "outcome": "refused",
        "door": "api",
        "source": "192.0.2.1",
    }
    same |= {"user_agent": "curl", "method": "POST", "path_class": "scim-token"}
    assert same_but_position(trail(database))[1:] == [
        told(
            **same,
            at="2021-08-10T11:00:00.000Z",
            reason="permission",
            note="lacks scim_tokens:write",
        ),
        told(**same, at="2021-08-10T12:00:00.000Z", reason="revoked"),
    ]


def test_a_tally_is_a_refusal_of_nobodys_token(database: Database) -> None:
    key = refusal_tally.TallyKey("unknown", "scim", T0)
    given(database, (key.id, refusal_tally.RefusalTally.add(key, 1234)[0], T1))

    assert same_but_position(trail(database)) == [
        told(
            at="2021-08-10T11:00:00.000Z",
            kind="refusal_tally.counted",
            outcome="refused",
            reason="unknown",
            door="scim",
            count=1234,
        )
    ]


def test_positions_are_those_of_the_ledger(database: Database) -> None:
    given(database, CREATED, USED)

    with psycopg.connect(database.app) as connection:
        ledger = connection.execute(
            "SELECT notification_id FROM ledger.events ORDER BY 1"
        ).fetchall()
    assert [(event.position,) for event in trail(database)] == ledger


@pytest.mark.parametrize("source", ["not an address", "192.0.2.1, 10.0.0.1", ""])
def test_a_source_that_is_no_address_stops_nothing(database: Database, source: str) -> None:
    used = scim_token.Used(
        count=1, first_at=T1, presentation=Presentation(door="scim", source=source)
    )
    given(database, CREATED, (TOKEN_ID, used, T1))

    assert [event.source for event in trail(database)] == [None, None]


def test_a_scoped_address_is_told_without_its_scope(database: Database) -> None:
    used = scim_token.Used(
        count=1, first_at=T1, presentation=Presentation("scim", source="fe80::1%eth0")
    )
    given(database, CREATED, (TOKEN_ID, used, T1))

    assert trail(database)[1].source == "fe80::1"


def test_delivered_twice_it_is_the_same(database: Database) -> None:
    given(database, CREATED, USED, REVOKED)
    before = content(database, PROJECTION)

    deliver_again(database, PROJECTION)
    catch_up(database)

    assert content(database, PROJECTION) == before


def test_rebuilt_it_is_the_same(database: Database) -> None:
    given(database, created_api_token(by=ADMIN), CREATED, USED, ROTATED, REVOKED, REFUSED)
    before = content(database, PROJECTION)

    assert len(before) == 6
    assert rebuilt(database, PROJECTION) == before


def test_every_event_of_the_registry_is_told() -> None:
    assert {event.topic for event in DETAILS} >= REGISTRY.topics


def test_a_row_has_no_place_for_a_digest() -> None:
    """But for the id of a secret, which an event holds in eight digits."""
    places = set(PROJECTION.columns) - {"secret"}
    assert not any("digest" in name or "secret" in name for name in places)
    assert {field.name for field in msgspec.structs.fields(audit_trail.AuditEvent)} == {
        *PROJECTION.columns.keys() - {"name", "ends_at"},  # for reads of the past, not to be told
        "outcome",
    }
