"""The extension `/policy`, over HTTP: rules in, refusals out, and who may set them."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.api_token.permissions import Permission
from tests.api.expected import assert_invalid, assert_not_found, assert_problem, create, topics
from tests.conftest import new_database
from tests.service import Caller, RunningService, running_service

NOT_ALLOWED = "A policy does not allow this token."
RULES = {"max_lifetime_days": 90, "expiry_required": True, "max_live_tokens": 2}
FAR = "2999-01-01T00:00:00Z"


def put(service: RunningService, caller: Caller, path: str, rules: dict[str, Any]) -> Any:
    return service.client.put(f"/policy{path}", auth=caller, json=rules)


def ask(service: RunningService, caller: Caller, team: UUID, **fields: Any) -> Any:
    body = {"team_id": str(team), "name": "Okta", **fields}
    return service.client.post("/scim-token", auth=caller, json=body)


def test_a_team_has_its_own_rules_and_none_at_first(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    path = f"/policy/{team}"
    assert service.client.get(path, auth=admin).json() == {}
    assert put(service, admin, f"/{team}", RULES).json() == RULES
    assert service.client.get(path, auth=admin).json() == RULES
    assert put(service, admin, f"/{team}", {"max_live_tokens": 0}).json() == {"max_live_tokens": 0}
    assert service.client.get(path, auth=admin).json() == {"max_live_tokens": 0}
    assert put(service, admin, f"/{team}", {}).json() == {}


def test_a_creation_is_told_every_rule_that_it_breaks_and_changes_nothing(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    create(service, admin, team=team)
    kept = create(service, admin, team=team)
    put(service, admin, f"/{team}", RULES)
    full = {
        "pointer": "/team_id",
        "detail": "the policy allows the team 2 live tokens, and it has them",
    }
    needed = {"pointer": "/expires_at", "detail": "the policy asks for an end"}
    late = {"pointer": "/expires_at", "detail": "the policy allows 90 days from the creation"}
    assert_problem(ask(service, admin, team), 422, "policy", NOT_ALLOWED, errors=[needed, full])
    assert_problem(
        ask(service, admin, team, expires_at=FAR), 422, "policy", NOT_ALLOWED, errors=[late, full]
    )
    listed = service.client.get("/scim-token", auth=admin, params={"team_id": str(team)}).json()
    assert len(listed["result"]) == 2
    service.client.delete(f"/scim-token/{kept['id']}", auth=admin)
    assert_problem(ask(service, admin, team), 422, "policy", NOT_ALLOWED, errors=[needed])
    assert ask(service, admin, uuid4()).status_code == 201  # another team's


def test_what_was_set_by_whom_is_in_the_trail_once(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    for _ in range(2):
        put(service, admin, f"/{team}", RULES)
    found = service.client.get("/audit", auth=admin, params={"team_id": str(team)}).json()["result"]
    (event,) = found
    assert (event["kind"], event["user_id"]) == ("policy.set", str(admin.user_id))
    assert event["note"] == "max_lifetime_days 90, expiry_required, max_live_tokens 2"


def test_a_repeated_key_sets_once(service: RunningService, admin: Caller, team: UUID) -> None:
    for rules in (RULES, {}):
        answer = service.client.put(
            f"/policy/{team}", auth=admin, json=rules, headers={"Idempotency-Key": "once"}
        )
        assert answer.status_code == (200 if rules else 422)
    assert service.client.get(f"/policy/{team}", auth=admin).json() == RULES


@pytest.mark.parametrize(
    ("rules", "pointer", "detail"),
    [
        (
            {"max_lifetime_days": 0},
            "/max_lifetime_days",
            "must be a whole number from 1 to 36500",
        ),
        ({"max_live_tokens": -1}, "/max_live_tokens", "must be a whole number from 0 to 1000000"),
        ({"expiry_required": 1}, "/expiry_required", "must be true or false"),
        ({"max_age": 1}, "/max_age", "is not a field of this resource"),
    ],
)
def test_bad_rules_change_nothing(  # noqa: PLR0917 - three fixtures and a table
    service: RunningService,
    admin: Caller,
    team: UUID,
    rules: dict[str, Any],
    pointer: str,
    detail: str,
) -> None:
    assert_invalid(put(service, admin, f"/{team}", rules), pointer, detail)
    assert service.client.get(f"/policy/{team}", auth=admin).json() == {}


def test_a_confined_caller_sets_its_teams_rules_and_reads_the_general_ones(
    service: RunningService, team: UUID
) -> None:
    confined = service.api_token(Permission.POLICIES_MANAGE, teams=[team])
    assert put(service, confined, f"/{team}", RULES).json() == RULES
    assert_not_found(put(service, confined, f"/{uuid4()}", RULES))
    assert_not_found(service.client.get(f"/policy/{uuid4()}", auth=confined))
    assert service.client.get("/policy", auth=confined).status_code == 200
    refused = put(service, confined, "", {})
    assert refused.status_code == 403
    assert refused.json()["type"] == "/problems/permission-denied"
    assert "this needs one for every team" in refused.json()["detail"]
    assert refused.headers["www-authenticate"].endswith(', error="insufficient_scope"')


@pytest.fixture(scope="module")
def alone(server: str) -> Iterator[RunningService]:
    """A service of its own: the general policy is everybody's."""
    with new_database(server) as database, running_service(database) as started:
        yield started


@pytest.mark.long
def test_the_general_policy_and_a_teams_own_hold_together(
    alone: RunningService, team: UUID
) -> None:
    admin = alone.api_token()
    put(alone, admin, "", {"max_live_tokens": 3, "expiry_required": True})
    put(alone, admin, f"/{team}", {"max_live_tokens": 9, "max_lifetime_days": 400})
    errors = ask(alone, admin, team, expires_at=FAR).json()["errors"]
    assert [each["pointer"] for each in errors] == ["/expires_at"]
    free = uuid4()
    made = [ask(alone, admin, free, expires_at=FAR) for _ in range(4)]
    assert [answer.status_code for answer in made] == [201, 201, 201, 422]
    assert topics(alone, made[0].json()["id"]) == ["scim_token.created.v1"]
    put(alone, admin, "", {})
