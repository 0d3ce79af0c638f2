"""`PATCH /scim-token/{id}`: whole answers, what follows at the doors, in the trail and the past."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.api.expected import all_topics, assert_not_found, assert_problem, create, topics, use
from tests.api.trail import text
from tests.conftest import now
from tests.service import Caller, RunningService, until
from tests.turns import by_turns

DAY = timedelta(days=1)


def change(
    service: RunningService, caller: Caller, id_: object, /, key: str = "", **body: Any
) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return service.client.patch(f"/scim-token/{id_}", auth=caller, json=body, headers=headers)


def read(service: RunningService, caller: Caller, id_: object, **params: str) -> Any:
    return service.client.get(f"/scim-token/{id_}", auth=caller, params=params).json()


def test_a_token_is_renamed_and_given_another_end(service: RunningService, admin: Caller) -> None:
    token = create(service, admin)
    secret, end = token.pop("token"), text(now() + 90 * DAY)
    answer = change(service, admin, token["id"], name="Entra", expires_at=end)
    assert answer.status_code == 200
    changed = answer.json()
    assert changed == token | {
        "name": "Entra",
        "expires_at": end,
        "updated_at": changed["updated_at"],
    }
    assert changed["updated_at"] > token["updated_at"]
    assert read(service, admin, token["id"]) == changed
    endless = change(service, admin, token["id"], expires_at=None).json()
    assert endless == token | {"name": "Entra", "updated_at": endless["updated_at"]}
    assert use(service, secret).status_code == 501


def test_a_shortened_end_is_the_end_of_its_secrets(service: RunningService, admin: Caller) -> None:
    token = create(service, admin, expires_at=text(now() + 90 * DAY))
    end = text(now() + timedelta(seconds=1))
    change(service, admin, token["id"], expires_at=end)
    found = service.client.get(f"/scim-token/{token['id']}/secrets", auth=admin).json()["result"]
    assert [each["ends_at"] for each in found] == [end]
    until(lambda: use(service, token["token"]).status_code == 401, what="the end")
    refused = change(service, admin, token["id"], expires_at=None)
    expired = {"pointer": "", "detail": "the token has expired; create another"}
    assert refused.status_code == 400
    assert refused.json()["errors"] == [expired]
    assert use(service, token["token"]).status_code == 401


def test_nothing_to_change_records_nothing(service: RunningService, admin: Caller) -> None:
    token = create(service, admin)
    del token["token"]
    for body in ({}, {"name": token["name"]}, {"expires_at": None, "reason": "why not"}):
        answer = change(service, admin, token["id"], **body)
        assert (answer.status_code, answer.json()) == (200, token)
    assert topics(service, token["id"]) == ["scim_token.created.v1"]


@pytest.mark.parametrize(
    ("body", "pointer", "status"),
    by_turns(
        [
            ({"nam": "x"}, "/nam", 400),
            ({"name": None}, "/name", 400),
            ({"name": ""}, "/name", 400),
            ({"name": 1}, "/name", 400),
            ({"expires_at": "soon"}, "/expires_at", 400),
            ({"expires_at": "2021-08-10T10:00:00Z"}, "/expires_at", 400),
            ({"team_id": str(uuid4())}, "/team_id", 400),
            ({"reason": "x" * 201}, "/reason", 400),
        ],
        one_of=3,
    ),
)
def test_what_cannot_be_meant_changes_nothing(
    service: RunningService, admin: Caller, body: dict[str, Any], pointer: str, status: int
) -> None:
    id_ = create(service, admin)["id"]
    answer = change(service, admin, id_, **body)
    assert answer.status_code == status
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert topics(service, id_) == ["scim_token.created.v1"]


def test_revoked_and_missing_tokens_are_not_found(service: RunningService, admin: Caller) -> None:
    id_ = create(service, admin)["id"]
    service.client.delete(f"/scim-token/{id_}", auth=admin)
    for each in (id_, uuid4()):
        assert_not_found(change(service, admin, each, name="Entra"))


def test_a_new_end_is_judged_by_the_policy_and_a_name_is_not(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    id_ = create(service, admin, team=team)["id"]
    end = text(now() + 20 * DAY)
    change(service, admin, id_, expires_at=end)
    service.client.put(f"/policy/{team}", auth=admin, json={"max_lifetime_days": 10})
    for asked, detail in (
        (None, "the policy asks for an end"),
        (text(now() + 11 * DAY), "the policy allows 10 days from the creation"),
    ):
        refused = change(service, admin, id_, name="Entra", expires_at=asked)
        error = {"pointer": "/expires_at", "detail": detail}
        told = "A policy does not allow this token."
        assert_problem(refused, 422, "policy", told, errors=[error])
    assert change(service, admin, id_, name="Entra", expires_at=end).json()["name"] == "Entra"
    shorter = text(now() + 9 * DAY)
    assert change(service, admin, id_, expires_at=shorter).json()["expires_at"] == shorter


def test_a_repeated_key_changes_it_once(service: RunningService, admin: Caller) -> None:
    id_ = create(service, admin)["id"]
    key = str(uuid4())
    first = change(service, admin, id_, key, name="Entra")
    change(service, admin, id_, name="Okta again")
    again = change(service, admin, id_, key, name="Entra")
    assert again.status_code == first.status_code == 200
    assert read(service, admin, id_)["name"] == "Okta again"
    assert change(service, admin, id_, key, name="Other").status_code == 422


def test_the_trail_says_who_changed_what_and_why(service: RunningService, admin: Caller) -> None:
    id_ = create(service, admin)["id"]
    end = text(now() + 90 * DAY)
    change(service, admin, id_, name="Entra", expires_at=end, reason="moved")
    change(service, admin, id_, expires_at=None)
    found = service.client.get(f"/scim-token/{id_}/events", auth=admin).json()["result"]
    told = [(each["kind"], each["reason"], each["note"], each["user_id"]) for each in found]
    by = str(admin.user_id)
    assert told[:2] == [
        ("scim_token.changed", None, "no end", by),
        ("scim_token.changed", "moved", f"name Entra, ends at {end}", by),
    ]


def test_as_of_an_instant_it_was_what_it_was(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team, expires_at=text(now() + 60 * DAY))
    changes: list[dict[str, Any]] = [
        {"name": "Entra"},
        {"expires_at": text(now() + 90 * DAY)},
        {"name": "Okta again", "expires_at": None},
        {"expires_at": text(now() + timedelta(seconds=1))},
    ]
    states = [read(service, admin, token["id"])]
    states += [change(service, admin, token["id"], **body).json() for body in changes]
    until(lambda: use(service, token["token"]).status_code == 401, what="the end")
    for state in states:
        then = {"as_of": state["updated_at"]}
        assert read(service, admin, token["id"], **then) == state
        listed = service.client.get(
            "/scim-token", auth=admin, params={"team_id": str(team), **then}
        )
        assert listed.status_code == 200, listed.text
        assert listed.json()["result"] == [state]
    ended = {"team_id": str(team), "status": "expired", "as_of": states[-1]["expires_at"]}
    found = service.client.get("/scim-token", auth=admin, params=ended).json()["result"]
    assert found == [states[-1] | {"last_used_at": found[0]["last_used_at"]}]


def test_an_end_that_comes_back_is_warned_of_again(service: RunningService, admin: Caller) -> None:
    end = text(now() + 20 * DAY)
    id_ = create(service, admin, expires_at=end)["id"]

    def warned() -> int:
        return all_topics(service, id_).count("scim_token.expiring.v1")

    until(lambda: warned() == 1, what="the first warning")
    for asked in (None, end):
        change(service, admin, id_, expires_at=asked)
    until(lambda: warned() == 2, what="the second")
