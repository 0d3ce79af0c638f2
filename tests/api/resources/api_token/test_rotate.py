"""`POST /api-token/{id}/rotate`."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from domain.api_token.permissions import Permission
from tests.api.expected import (
    assert_invalid,
    assert_not_found,
    assert_problem,
    assert_unauthenticated,
    topics,
)
from tests.api.resources.api_token.words import MANAGE, READ, WRITE, as_caller, asked, events, make
from tests.api.trail import audit
from tests.service import Caller, RunningService


def rotate(
    service: RunningService, caller: Caller, id_: object, body: Any = None, **headers: str
) -> httpx.Response:
    return service.client.post(
        f"/api-token/{id_}/rotate", auth=caller, json=body or {}, headers=headers
    )


def is_good(service: RunningService, caller: Caller) -> bool:
    status = service.client.get("/whoami", auth=caller).status_code
    assert status in {200, 401}
    return status == 200


def a_while_later(service: RunningService, id_: object) -> None:
    """As if its last rotation had been ten seconds ago."""
    statement = """
        UPDATE ledger.aggregates
        SET state = convert_to(jsonb_set(convert_from(state, 'UTF8')::jsonb, '{rotated_at}',
            '"2021-08-10T10:00:00Z"')::text, 'UTF8')
        WHERE originator_id = %s
    """
    service.query(statement, str(id_))


def test_both_secrets_work_for_the_overlap_and_tell_of_one_token(
    service: RunningService, admin: Caller
) -> None:
    made = make(service, admin)
    answer = rotate(service, admin, made["id"], {"reason": "every quarter"})
    assert answer.status_code == 200
    rotated = answer.json()
    assert rotated == made | {"token": rotated["token"]}
    assert rotated["token"] != made["token"]
    assert answer.headers["location"] == f"/api-token/{made['id']}"
    found = [service.client.get("/whoami", auth=as_caller(each)).json() for each in (made, rotated)]
    assert found[0] == found[1]
    (row,) = audit(service, admin, token_id=made["id"], kind="api_token.rotated")
    assert (row["reason"], row["api_token_id"]) == ("every quarter", str(admin.id))


def test_without_an_overlap_the_secret_before_ends_at_once(
    service: RunningService, admin: Caller
) -> None:
    made = make(service, admin, asked(READ))
    assert is_good(service, as_caller(made))
    rotated = rotate(service, admin, made["id"], {"overlap_seconds": 0}).json()
    answer = service.client.get("/whoami", auth=as_caller(made))
    assert_unauthenticated(answer, "The API token is not valid.", was_presented=True)
    assert is_good(service, as_caller(rotated))
    (row,) = audit(service, admin, token_id=made["id"], outcome="refused")
    assert (row["kind"], row["reason"]) == ("api_token.refused", "expired")


def test_a_revocation_ends_both_secrets(service: RunningService, admin: Caller) -> None:
    made = make(service, admin)
    rotated = rotate(service, admin, made["id"]).json()
    service.client.delete(f"/api-token/{made['id']}", auth=admin)
    assert [is_good(service, as_caller(each)) for each in (made, rotated)] == [False, False]


def test_a_third_secret_waits_or_ends_both_before(service: RunningService, admin: Caller) -> None:
    made = make(service, admin)
    second = rotate(service, admin, made["id"]).json()
    answer = rotate(service, admin, made["id"], {"overlap_seconds": 0})
    assert (answer.status_code, answer.json()["type"]) == (429, "/problems/too-many-requests")
    assert int(answer.headers["retry-after"]) in range(1, 11)
    a_while_later(service, made["id"])
    assert_problem(
        rotate(service, admin, made["id"]),
        409,
        "rotation-underway",
        "The token has two good secrets; wait for the end of the older one, or rotate it without "
        "an overlap, which ends both at once.",
    )
    third = rotate(service, admin, made["id"], {"overlap_seconds": 0}).json()
    assert [is_good(service, as_caller(each)) for each in (made, second, third)] == [
        *(False, False, True),
    ]


def test_a_token_rotates_itself(service: RunningService, admin: Caller) -> None:
    held = as_caller(make(service, admin, asked(MANAGE)))
    rotated = rotate(service, held, held.id, {"overlap_seconds": 0}).json()
    assert not is_good(service, held)
    assert is_good(service, as_caller(rotated))


def test_a_token_that_may_more_is_not_rotated_into_the_callers_hands(
    service: RunningService, admin: Caller
) -> None:
    caller = service.api_token(Permission.API_TOKENS_MANAGE)
    made = make(service, admin, asked(READ, WRITE))
    answer = rotate(service, caller, made["id"])
    assert_problem(answer, 403, "permission-denied", f"The API token lacks the permission {READ}.")
    assert topics(service, made["id"]) == ["api_token.created.v1"]


def test_foreign_missing_and_revoked_look_the_same(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    caller = service.api_token(teams=[team])
    foreign = make(service, admin, asked(teams=[team, uuid4()]))
    revoked = make(service, admin, asked(teams=[team]))
    service.client.delete(f"/api-token/{revoked['id']}", auth=admin)
    before = events(service)
    for id_ in (uuid4(), admin.id, foreign["id"], revoked["id"]):
        assert_not_found(rotate(service, caller, id_))
    assert events(service) == before


def test_a_repeated_key_rotates_once(service: RunningService, admin: Caller) -> None:
    made, key = make(service, admin), {"Idempotency-Key": str(uuid4())}
    assert rotate(service, admin, made["id"], **key).status_code == 200
    again = rotate(service, admin, made["id"], **key)
    assert (again.status_code, again.json()["token_id"]) == (409, made["id"])
    assert again.json()["type"] == "/problems/secret-already-shown"
    assert topics(service, made["id"]) == ["api_token.created.v1", "api_token.rotated.v1"]


@pytest.mark.parametrize("seconds", [-1, 2_592_001, "a", 1.5, None])
def test_an_overlap_out_of_range_is_refused(
    service: RunningService, admin: Caller, seconds: object
) -> None:
    made = make(service, admin)
    answer = rotate(service, admin, made["id"], {"overlap_seconds": seconds})
    assert_invalid(answer, "/overlap_seconds", "must be a whole number from 0 to 2592000")


def test_everything_beside_the_events_follows_from_them(
    service: RunningService, admin: Caller
) -> None:
    made = make(service, admin)
    rotate(service, admin, made["id"])
    token = service.command(lambda ledger: ledger.api_token(UUID(made["id"])))
    replayed = service.command(lambda ledger: _replayed(ledger, token.id))
    assert token == replayed


async def _replayed(ledger: Any, id_: UUID) -> Any:
    return ledger.replay(id_)
