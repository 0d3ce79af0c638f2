"""`POST /api-token`: one test per outcome, with the whole answer."""

from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from domain.api_token.permissions import Permission
from domain.secret import parse
from tests.api.expected import (
    INSTANT,
    UUID_TEXT,
    assert_invalid,
    assert_not_found,
    assert_problem,
    create,
    instant,
    topics,
)
from tests.api.resources.api_token.words import (
    ALL,
    API_SECRET,
    FIELDS,
    MANAGE,
    READ,
    WRITE,
    as_caller,
    asked,
    events,
    make,
)
from tests.api.trail import audit
from tests.service import Caller, RunningService
from tests.turns import by_turns

NO_UUID: Final = "must be a UUID, such as 05daecaf-4365-42e8-8370-8127de5dd717"
NO_LIST: Final = "must be a list of one or more, each of which "
NO_PERMISSION: Final = f"{NO_LIST}must be one of: {', '.join(ALL)}"
SHOWN: Final = (
    "This request was carried out before; its secret was shown then. Revoke or rotate the token."
)


def test_an_api_token_is_created_and_works_at_once(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    body = asked(READ, WRITE, teams=[team], expires_at="2999-01-01T00:00:00+02:00")
    answer = service.client.post("/api-token", auth=admin, json=body)
    assert answer.status_code == 201
    made = answer.json()
    assert list(made) == [*FIELDS, "token"]
    assert answer.headers["location"] == f"/api-token/{made['id']}"
    assert answer.headers["cache-control"] == "no-store"
    assert UUID_TEXT.fullmatch(made["id"])
    assert INSTANT.fullmatch(made["created_at"])
    assert API_SECRET.fullmatch(made["token"])
    assert parse(made["token"]).kind == "api_live_", "the checksum is right"
    rest = {name: made[name] for name in ("user_id", "permissions", "teams", "expires_at")}
    assert rest == body | {
        "permissions": [READ, WRITE],
        "expires_at": "2998-12-31T22:00:00.000Z",
    }
    assert made["last_used_at"] is None

    created = create(service, as_caller(made), team=team)
    assert created["created_by"] == made["user_id"]


def test_without_teams_it_is_for_every_team_and_without_an_end_it_ends_in_90_days(
    service: RunningService, admin: Caller
) -> None:
    made = make(service, admin, asked())
    assert made["teams"] is None
    assert instant(made["expires_at"]) == instant(made["created_at"]) + timedelta(days=90)


def test_it_is_for_good_where_that_is_said(service: RunningService, admin: Caller) -> None:
    made = make(service, admin, asked(teams=None, expires_at=None))
    assert (made["teams"], made["expires_at"]) == (None, None)


def test_whoever_made_it_is_on_record(service: RunningService) -> None:
    caller = service.api_token()
    made = make(service, caller, asked(reason="for the SIEM"), **{"User-Agent": "terraform/1.9"})
    (row,) = audit(service, caller, token_id=made["id"])
    assert (
        row
        | {
            "kind": "api_token.created",
            "reason": "for the SIEM",
            "user_id": str(caller.user_id),
            "api_token_id": str(caller.id),
            "source": "127.0.0.1",
            "user_agent": "terraform/1.9",
            "operator": None,
        }
        == row
    )


def test_the_feed_tells_of_it(service: RunningService) -> None:
    caller = service.api_token()
    made = make(service, caller)
    service.client.delete(f"/api-token/{made['id']}", auth=caller, params={"reason": "left"})
    after = audit(service, caller, token_id=str(caller.id), order="oldest")[0]["position"]
    found = service.client.get("/events", auth=caller, params={"after": after, "limit": 1000})
    assert [
        (each["type"], each["data"]["reason"], each["data"]["user_id"])
        for each in found.json()
        if each.get("subject") == f"api_token/{made['id']}"
    ] == [
        ("api_token.created", None, str(caller.user_id)),
        ("api_token.revoked", "left", str(caller.user_id)),
    ]


# Nobody grants more than they have


def test_a_permission_that_the_caller_lacks_is_refused_and_on_record(
    service: RunningService, admin: Caller
) -> None:
    caller = service.api_token(Permission.API_TOKENS_MANAGE, Permission.SCIM_TOKENS_READ)
    before = events(service)
    answer = service.client.post("/api-token", auth=caller, json=asked(READ, WRITE, MANAGE))
    detail = f"The API token lacks the permission {WRITE}."
    assert_problem(answer, 403, "permission-denied", detail)
    assert f'scope="{WRITE}"' in answer.headers["www-authenticate"]
    assert events(service) == before
    (row,) = audit(service, admin, token_id=str(caller.id), outcome="refused")
    assert (row["note"], row["path_class"]) == (f"lacks {WRITE}", "api-token")


def test_a_team_that_the_caller_may_not_touch_is_missing(
    service: RunningService, team: UUID
) -> None:
    caller = service.api_token(teams=[team])
    before = events(service)
    for teams in ([uuid4()], [team, uuid4()]):
        answer = service.client.post("/api-token", auth=caller, json=asked(teams=teams))
        assert_not_found(answer)
    assert events(service) == before


@pytest.mark.parametrize("more", [{}, {"teams": None}])
def test_a_caller_for_some_teams_makes_no_token_for_all(
    service: RunningService, team: UUID, more: dict[str, Any]
) -> None:
    caller = service.api_token(teams=[team])
    before = events(service)
    answer = service.client.post("/api-token", auth=caller, json=asked() | more)
    detail = "must be given: your own API token is for some teams only"
    assert_invalid(answer, "/teams", detail, about="A value is not valid.")
    assert events(service) == before


def test_what_it_has_is_handed_on_whole_and_further(service: RunningService, team: UUID) -> None:
    first = service.api_token(teams=[team, uuid4()])
    second = as_caller(make(service, first, asked(MANAGE, READ, teams=[team])))
    third = make(service, second, asked(READ, teams=[team]))
    assert (third["permissions"], third["teams"]) == ([READ], [str(team)])
    answer = service.client.post("/api-token", auth=second, json=asked(WRITE, teams=[team]))
    assert answer.status_code == 403


# What is not valid changes nothing


@pytest.mark.parametrize(
    ("fields", "pointer", "detail"),
    by_turns(
        [
            ({"user_id": "ada"}, "/user_id", NO_UUID),
            ({"user_id": None}, "/user_id", NO_UUID),
            ({"permissions": []}, "/permissions", NO_PERMISSION),
            ({"permissions": None}, "/permissions", NO_PERMISSION),
            ({"permissions": "scim_tokens:read"}, "/permissions", NO_PERMISSION),
            ({"permissions": ["scim_tokens:read", "root"]}, "/permissions", NO_PERMISSION),
            ({"permissions": [["scim_tokens:read"]]}, "/permissions", NO_PERMISSION),
            ({"teams": []}, "/teams", f"{NO_LIST}{NO_UUID}"),
            ({"teams": "05daecaf-4365-42e8-8370-8127de5dd717"}, "/teams", f"{NO_LIST}{NO_UUID}"),
            ({"teams": [None]}, "/teams", f"{NO_LIST}{NO_UUID}"),
            ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at", "must be in the future"),
            ({"reason": ""}, "/reason", "must be a string of 1 to 200 characters"),
            ({"lifetime": 1}, "/lifetime", "is not a field of this resource"),
            ({"token": "api_live_x"}, "/token", "is not a field of this resource"),
        ],
        one_of=3,
    ),
)
def test_a_body_against_the_rules_is_refused(
    service: RunningService, admin: Caller, fields: dict[str, Any], pointer: str, detail: str
) -> None:
    before = events(service)
    answer = service.client.post("/api-token", auth=admin, json=asked() | fields)
    assert_invalid(answer, pointer, detail)
    assert events(service) == before


def test_all_that_is_wrong_is_told_at_once(service: RunningService, admin: Caller) -> None:
    answer = service.client.post("/api-token", auth=admin, json={"permissions": ["root"], "x": 1})
    assert [error["pointer"] for error in answer.json()["errors"]] == [
        *("/user_id", "/permissions", "/x"),
    ]


# Idempotency


def test_a_repeated_key_names_the_token_and_mints_nothing(
    service: RunningService, admin: Caller
) -> None:
    body, key = asked(), {"Idempotency-Key": str(uuid4())}
    first = make(service, admin, body, **key)
    before = events(service)
    for _ in range(3):
        again = service.client.post("/api-token", auth=admin, json=body, headers=key)
        assert_problem(again, 409, "secret-already-shown", SHOWN, token_id=first["id"])
    other = service.client.post("/api-token", auth=admin, json=asked(), headers=key)
    detail = "The Idempotency-Key was used for another request."
    assert_problem(other, 422, "idempotency-key-reused", detail)
    assert events(service) == before
    assert topics(service, first["id"]) == ["api_token.created.v1"]
