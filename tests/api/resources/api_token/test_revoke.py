"""`DELETE /api-token/{id}`."""

from collections.abc import Iterator
from typing import Final
from uuid import UUID, uuid4

import pytest

from domain.api_token.permissions import Permission
from tests.api.expected import (
    assert_invalid,
    assert_not_found,
    assert_problem,
    assert_unauthenticated,
    topics,
)
from tests.api.resources.api_token.words import MANAGE, READ, as_caller, asked, events, make
from tests.api.trail import audit
from tests.conftest import new_database
from tests.service import Caller, RunningService, running_service

LAST: Final = (
    "It is the last API token that may manage API tokens where it can. It was not revoked."
)


def revoke(service: RunningService, caller: Caller, id_: object, **params: str) -> int:
    answer = service.client.delete(f"/api-token/{id_}", auth=caller, params=params)
    if answer.status_code == 200:
        assert answer.json() == {"id": str(id_)}
    return answer.status_code


def test_a_revoked_token_ends_at_once_and_tells_who_and_why(service: RunningService) -> None:
    caller = service.api_token()
    made = make(service, caller)
    held = as_caller(made)
    assert service.client.get("/whoami", auth=held).status_code == 200
    assert revoke(service, caller, made["id"], reason="left the company") == 200
    answer = service.client.get("/whoami", auth=held)
    assert_unauthenticated(answer, "The API token is not valid.", was_presented=True)
    row = audit(service, caller, token_id=made["id"], kind="api_token.revoked")[0]
    assert (row["reason"], row["user_id"], row["api_token_id"], row["source"]) == (
        *("left the company", str(caller.user_id), str(caller.id)),
        "127.0.0.1",
    )


def test_repeated_it_answers_the_same_and_records_nothing(
    service: RunningService, admin: Caller
) -> None:
    made = make(service, admin)
    assert [revoke(service, admin, made["id"]) for _ in range(3)] == [200] * 3
    assert topics(service, made["id"]) == ["api_token.created.v1", "api_token.revoked.v1"]


def test_foreign_and_missing_look_the_same(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    caller = service.api_token(teams=[team])
    others = [make(service, admin, asked(teams=teams)) for teams in (None, [team, uuid4()])]
    before = events(service)
    for id_ in (uuid4(), admin.id, *(each["id"] for each in others)):
        answer = service.client.delete(f"/api-token/{id_}", auth=caller)
        assert_not_found(answer)
    assert events(service) == before


@pytest.mark.parametrize("reason", ["", " ", "r" * 201])
def test_a_reason_against_the_rules_is_refused(
    service: RunningService, admin: Caller, reason: str
) -> None:
    made = make(service, admin)
    answer = service.client.delete(
        f"/api-token/{made['id']}", auth=admin, params={"reason": reason}
    )
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "reason"
    assert topics(service, made["id"]) == ["api_token.created.v1"]


def test_a_token_revokes_itself(service: RunningService, admin: Caller) -> None:
    held = as_caller(make(service, admin, asked(MANAGE)))
    assert revoke(service, held, held.id) == 200
    assert revoke(service, held, held.id) == 401


@pytest.fixture
def own(server: str) -> Iterator[RunningService]:
    """A service without any API token that is good."""
    with new_database(server) as database, running_service(database) as started:
        (first,) = started.command(lambda ledger: ledger.api_tokens())
        started.command(lambda ledger: ledger.revoke_api_token(first.id))
        yield started


@pytest.mark.long
def test_the_last_manager_stays(own: RunningService) -> None:
    """Of the service, and of no team: one for some teams does not stand in for it."""
    first = own.api_token()
    team = uuid4()
    confined = as_caller(make(own, first, asked(MANAGE, READ, teams=[team])))
    make(own, first, asked(READ))

    answer = own.client.delete(f"/api-token/{first.id}", auth=first)
    assert_problem(answer, 409, "last-manager", LAST)
    assert own.client.get("/whoami", auth=first).status_code == 200
    assert revoke(own, confined, confined.id) == 200, "the first one manages its team, too"

    second = as_caller(make(own, first, asked(MANAGE)))
    assert revoke(own, second, first.id) == 200
    answer = own.client.delete(f"/api-token/{second.id}", auth=second)
    assert_problem(answer, 409, "last-manager", LAST)
    assert revoke(own, second, first.id) == 200, "what is revoked already is no manager"

    own.command(lambda ledger: ledger.revoke_api_token(second.id))
    assert own.client.get("/whoami", auth=second).status_code == 401, "the operator may"


def test_a_token_that_manages_nothing_revokes_nothing(
    service: RunningService, admin: Caller
) -> None:
    made = make(service, admin)
    caller = service.api_token(Permission.SCIM_TOKENS_READ)
    assert revoke(service, caller, made["id"]) == 403
    assert revoke(service, caller, caller.id) == 403


def test_an_unknown_parameter_is_refused(service: RunningService, admin: Caller) -> None:
    made = make(service, admin)
    answer = service.client.delete(f"/api-token/{made['id']}", auth=admin, params={"force": "1"})
    about = "A parameter is not known."
    assert_invalid(answer, "force", "is not a parameter of this resource", about=about)
