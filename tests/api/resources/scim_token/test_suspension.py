"""Suspend and resume over HTTP: whole answers, the doors, the trail, the list."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.api.expected import assert_not_found, assert_problem, create, topics, use
from tests.service import Caller, RunningService

DOORS = ("/scim/v2/Users", "/gateway/nginx", "/gateway/forward", "/gateway/envoy/x")


def post(
    service: RunningService, caller: Caller, id_: object, verb: str, **body: Any
) -> httpx.Response:
    return service.client.post(f"/scim-token/{id_}/{verb}", auth=caller, json=body)


def refusals(service: RunningService, secret: str) -> list[tuple[int, str]]:
    """What each door answers to a secret, but for the request's id."""
    bearer = {"Authorization": f"Bearer {secret}"}
    answers = [service.client.get(door, headers=bearer) for door in DOORS]
    return [(answer.status_code, answer.text[:40]) for answer in answers]


def test_a_suspended_token_lets_nobody_in_until_it_is_resumed(
    service: RunningService, admin: Caller
) -> None:
    token = create(service, admin)
    secret = token.pop("token")
    answer = post(service, admin, token["id"], "suspend", reason="odd calls")
    assert answer.status_code == 200
    suspended = answer.json()
    at = suspended["suspended_at"]
    assert suspended == token | {"updated_at": at, "suspended_at": at}
    assert service.client.get(f"/scim-token/{token['id']}", auth=admin).json() == suspended
    revoked = create(service, admin)
    service.client.delete(f"/scim-token/{revoked['id']}", auth=admin)
    assert refusals(service, secret) == refusals(service, revoked["token"])
    resumed = post(service, admin, token["id"], "resume").json()
    assert resumed == token | {"updated_at": resumed["updated_at"]}
    assert use(service, secret).status_code == 501


def test_repeated_it_records_nothing_new(service: RunningService, admin: Caller) -> None:
    id_ = create(service, admin)["id"]
    first, second = (post(service, admin, id_, "suspend").json() for _ in range(2))
    assert first == second
    first, second = (post(service, admin, id_, "resume").json() for _ in range(2))
    assert first == second
    assert topics(service, id_) == [
        "scim_token.created.v1",
        "scim_token.suspended.v1",
        "scim_token.resumed.v1",
    ]


def test_the_trail_says_who_suspended_it_and_why_a_secret_was_refused(
    service: RunningService, admin: Caller
) -> None:
    token = create(service, admin)
    post(service, admin, token["id"], "suspend", reason="odd calls")
    use(service, token["token"])
    asked = {"token": token["token"]}
    verified = service.client.post("/verify", auth=admin, json=asked).json()
    assert verified == {"active": False, "reason": "suspended"}
    found = service.client.get(f"/scim-token/{token['id']}/events", auth=admin).json()["result"]
    told = [(each["kind"], each["reason"], each["user_id"]) for each in reversed(found)]
    assert told == [
        ("scim_token.created", None, str(admin.user_id)),
        ("scim_token.suspended", "odd calls", str(admin.user_id)),
        ("scim_token.refused", "suspended", None),
    ]


def test_the_list_shows_suspended_tokens_and_finds_them(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    good, paused, gone = (create(service, admin, team=team, name=n)["id"] for n in "abc")
    for id_ in (paused, gone):
        post(service, admin, id_, "suspend")
    service.client.delete(f"/scim-token/{gone}", auth=admin)

    def listed(**query: str) -> Any:
        params = {"team_id": str(team), **query}
        return service.client.get("/scim-token", auth=admin, params=params)

    assert [each["id"] for each in listed().json()["result"]] == [paused, good]
    assert [each["id"] for each in listed(status="suspended").json()["result"]] == [paused]
    at = service.client.get(f"/scim-token/{good}", auth=admin).json()["created_at"]
    together = listed(status="suspended", as_of=at)
    assert together.status_code == 400
    assert together.json()["errors"] == [{"pointer": "status", "detail": "cannot go with as_of"}]


def test_as_of_an_instant_it_was_what_it_was(service: RunningService, admin: Caller) -> None:
    id_ = create(service, admin)["id"]
    first = service.client.get(f"/scim-token/{id_}", auth=admin).json()
    later = [post(service, admin, id_, verb).json() for verb in ("suspend", "resume", "suspend")]
    for state in (first, *later):
        params = {"as_of": state["updated_at"]}
        found = service.client.get(f"/scim-token/{id_}", auth=admin, params=params)
        assert found.json() == state


@pytest.mark.parametrize("verb", ["suspend", "resume"])
def test_revoked_and_missing_tokens_are_not_found(
    service: RunningService, admin: Caller, verb: str
) -> None:
    id_ = create(service, admin)["id"]
    service.client.delete(f"/scim-token/{id_}", auth=admin)
    for each in (id_, uuid4()):
        assert_not_found(post(service, admin, each, verb))


def test_to_resume_takes_a_place_under_the_policy(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    paused = create(service, admin, team=team)["id"]
    post(service, admin, paused, "suspend")
    service.client.put(f"/policy/{team}", auth=admin, json={"max_live_tokens": 1})
    create(service, admin, team=team)
    full = {
        "pointer": "/team_id",
        "detail": "the policy allows the team 1 live tokens, and it has them",
    }
    refused = post(service, admin, paused, "resume")
    assert_problem(refused, 422, "policy", "A policy does not allow this token.", errors=[full])
    assert topics(service, paused) == ["scim_token.created.v1", "scim_token.suspended.v1"]
