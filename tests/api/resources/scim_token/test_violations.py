"""What breaks the policy in force by its end, or by having none: listed, and revoked together."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.api_token.permissions import Permission
from tests.api.expected import assert_invalid, create
from tests.conftest import new_database, now
from tests.service import Caller, RunningService, running_service

pytestmark = pytest.mark.long

VIOLATING = {"violates": "policy"}


@pytest.fixture(scope="module")
def alone(server: str) -> Iterator[RunningService]:
    """A service of its own: the general policy is everybody's."""
    with new_database(server) as database, running_service(database) as started:
        yield started


@pytest.fixture
def admin(alone: RunningService) -> Iterator[Caller]:
    caller = alone.api_token()
    yield caller
    put(alone, caller, "", {})


def put(service: RunningService, caller: Caller, path: str, rules: dict[str, Any]) -> None:
    assert service.client.put(f"/policy{path}", auth=caller, json=rules).status_code == 200


def in_days(days: int) -> str:
    return f"{now() + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


def ids(service: RunningService, caller: Caller, **query: str) -> list[str]:
    answer = service.client.get("/scim-token", auth=caller, params={**VIOLATING, **query})
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["result"]]


def test_what_breaks_the_policy_in_force_is_listed_from_the_moment_that_it_is_set(
    alone: RunningService, admin: Caller, team: UUID
) -> None:
    endless, long, short = (
        create(alone, admin, team=team, **more)["id"]
        for more in ({}, {"expires_at": in_days(200)}, {"expires_at": in_days(20)})
    )
    gone = create(alone, admin, team=team)["id"]
    alone.client.delete(f"/scim-token/{gone}", auth=admin)
    mine = {"team_id": str(team)}
    assert ids(alone, admin, **mine) == []
    put(alone, admin, "", {"expiry_required": True})
    assert ids(alone, admin, **mine) == ids(alone, admin) == [endless]
    put(alone, admin, "", {"max_lifetime_days": 90})
    assert ids(alone, admin, **mine) == ids(alone, admin) == [long, endless]
    put(alone, admin, f"/{team}", {"max_lifetime_days": 10})
    assert ids(alone, admin, **mine) == ids(alone, admin) == [short, long, endless]
    put(alone, admin, "", {})
    assert ids(alone, admin, **mine) == ids(alone, admin) == [short, long, endless]
    assert ids(alone, admin, expires_before=in_days(50)) == [short]
    assert ids(alone, admin, created_by=str(admin.user_id)) == [short, long, endless]
    assert ids(alone, admin, created_by=str(uuid4())) == []
    put(alone, admin, f"/{team}", {})
    assert ids(alone, admin) == []


def test_a_team_of_too_many_tokens_has_none_that_breaks_the_policy(
    alone: RunningService, admin: Caller, team: UUID
) -> None:
    for _ in range(3):
        create(alone, admin, team=team)
    put(alone, admin, f"/{team}", {"max_live_tokens": 1})
    assert ids(alone, admin, team_id=str(team)) == []


def test_each_team_is_judged_by_its_own_policy_and_seen_by_its_own_callers(
    alone: RunningService, admin: Caller, team: UUID
) -> None:
    other = uuid4()
    own, foreign = (
        create(alone, admin, team=each, expires_at=in_days(50))["id"] for each in (team, other)
    )
    put(alone, admin, f"/{other}", {"max_lifetime_days": 10})
    assert ids(alone, admin) == [foreign]
    assert ids(alone, alone.api_token(teams=[team])) == []
    put(alone, admin, "", {"max_lifetime_days": 10})
    assert ids(alone, alone.api_token(teams=[team])) == [own]
    assert ids(alone, alone.api_token(teams=[team, other])) == [foreign, own]
    put(alone, admin, f"/{other}", {})


def test_pages_lead_to_each_of_them_once(alone: RunningService, admin: Caller, team: UUID) -> None:
    made = [
        create(alone, admin, team=team, **({"expires_at": in_days(n)} if n % 3 else {}))["id"]
        for n in range(40, 52)
    ]
    put(alone, admin, f"/{team}", {"max_lifetime_days": 30})
    found: list[str] = []
    query = {**VIOLATING, "limit": "5"}
    while True:
        page = alone.client.get("/scim-token", auth=admin, params=query).json()
        found += [each["id"] for each in page["result"]]
        if page["next_cursor"] is None:
            break
        query["next_cursor"] = page["next_cursor"]
    assert found == made[::-1]
    put(alone, admin, f"/{team}", {})


def test_they_are_revoked_together_and_nothing_else_is(
    alone: RunningService, admin: Caller, team: UUID
) -> None:
    bad, good = (
        create(alone, admin, team=team),
        create(alone, admin, team=team, expires_at=in_days(20)),
    )
    put(alone, admin, f"/{team}", {"expiry_required": True})

    def ask(caller: Caller, **more: Any) -> dict[str, Any]:
        body = {"where": {"violates_policy": True}, **more}
        done = alone.client.post("/scim-token/revoke", auth=caller, json=body)
        assert done.status_code == 200, done.text
        answer: dict[str, Any] = done.json()
        return answer

    stranger = alone.api_token(Permission.SCIM_TOKENS_WRITE, teams=[uuid4()])
    assert ask(stranger)["matched"] == 0
    rehearsed = ask(admin, dry_run=True)
    assert (rehearsed["matched"], rehearsed["revoked"]) == (1, 0)
    assert [each["id"] for each in rehearsed["result"]] == [bad["id"]]
    done = ask(admin, reason="without an end")
    assert (done["matched"], done["revoked"]) == (1, 1)
    assert ids(alone, admin) == []
    assert alone.client.get(f"/scim-token/{good['id']}", auth=admin).status_code == 200
    assert alone.client.get(f"/scim-token/{bad['id']}", auth=admin).status_code == 404


def test_what_it_cannot_be_is_told(service: RunningService) -> None:
    caller = service.api_token()
    answer = service.client.get("/scim-token", auth=caller, params={"violates": "decency"})
    assert_invalid(answer, "violates", "must be one of: policy", about="A parameter is not valid.")
    query = {**VIOLATING, "as_of": "2021-08-10T10:00:00Z"}
    answer = service.client.get("/scim-token", auth=caller, params=query)
    assert_invalid(
        answer,
        "violates",
        "cannot go with as_of",
        about="Two filters do not go together.",
    )
